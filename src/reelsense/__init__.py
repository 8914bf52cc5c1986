"""Film-review sentiment with a bidirectional LSTM on GloVe word vectors.

    import reelsense
    model = reelsense.load()  # or "accurate", or the folder of a bundle
    model("A wonderful film.").label

Importing the package imports nothing else: numpy and onnxruntime come with the first `load()`.
"""

TYPE_CHECKING = False  # what type checkers take for true, without importing typing
if TYPE_CHECKING:
    from typing import Any

    from reelsense.inference.answers import Explanation, Prediction
    from reelsense.inference.predictor import Predictor, load

__all__ = ["Explanation", "Prediction", "Predictor", "__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> "Any":
    if name in __all__:
        from reelsense.inference import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'reelsense' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
