"""JSON to texts, and answers to JSON: Reelsense's own shapes and those of two other servers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reelsense.inference.answers import Evidence, Explanation, Prediction
from reelsense.serving.limits import Limits, Refused

# Fields of the other two servers. What is only in these sets cannot change an answer of this model.
HUGGING_FACE: Final = {"inputs", "parameters", "options", "model"}
TEXT_EMBEDDINGS: Final = {"inputs", "raw_scores", "truncate", "truncation_direction"}
# Kept: `json.dumps` makes another one for each answer.
ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Asked:
    """What a request asks for: texts; whether the answer is a list; at most so many labels.

    top 0: the best label alone, in a list of them, also of one text.
    """

    texts: list[str]
    listed: bool
    top: int = 2


def read_json(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        Refused: it is not UTF-8, not JSON, or no object.
    """
    try:
        content = json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _unfit("not_utf_8", f"byte {error.start} of the body is not UTF-8") from None
    except RecursionError:
        raise _unfit("not_json", "the body is nested too deeply") from None
    except ValueError as error:
        where = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
        raise _unfit("not_json", f"the body is not JSON{where}") from None
    if not isinstance(content, dict):
        raise _unfit("wrong_type", 'the body must be a JSON object, as in {"text": "..."}')
    return content


def asked_of_predict(content: Mapping[str, Any], limits: Limits) -> Asked:
    """Return the texts of {"text": ...} or {"texts": [...]}."""
    _need_only(content, {"text", "texts"})
    if len(content) != 1:
        raise _unfit("wrong_fields", 'give either "text", a string, or "texts", a list of strings')
    if "text" in content:
        return Asked([_text(content["text"], "text", limits)], False)
    return Asked(_texts(content["texts"], "texts", limits), True)


def asked_of_explain(content: Mapping[str, Any], limits: Limits) -> str:
    """Return the text of {"text": ...}."""
    _need_only(content, {"text"})
    if not content:
        raise _unfit("wrong_fields", 'give "text", a string')
    return _text(content["text"], "text", limits)


def asked_of_hugging_face(content: Mapping[str, Any], limits: Limits) -> Asked:
    """Return the texts of {"inputs": "..." or [...], "parameters": {"top_k": ...}}.

    As the Inference API takes them; a string is answered as a list of one.
    """
    inputs = _inputs(content, HUGGING_FACE)
    parameters = content.get("parameters")
    if not isinstance(parameters, (dict, type(None))):
        raise _unfit("wrong_type", '"parameters" must be an object')
    parameters = parameters or {}
    top = parameters.get("top_k")
    whole = type(top) is int or (type(top) is float and top.is_integer())
    if top is not None and not (whole and top >= 1):
        raise _unfit("wrong_type", '"top_k" must be a whole number, at least 1')
    if parameters.get("function_to_apply") not in (None, "sigmoid", "softmax"):
        raise _unfit("unsupported", "this model gives calibrated probabilities only; leave "
                     '"function_to_apply" out')  # fmt: skip
    texts = [inputs] if isinstance(inputs, str) else inputs
    return Asked(_texts(texts, "inputs", limits), True, 2 if top is None else int(min(top, 2)))


def asked_of_pipeline(content: Mapping[str, Any], limits: Limits) -> Asked:
    """Return the same as one of Hugging Face's Inference Endpoints takes it, a `pipeline`.

    Without "top_k", one label a text; with it, labels for a string and lists of them for a list.
    """
    asked = asked_of_hugging_face(content, limits)
    given = (content.get("parameters") or {}).get("top_k") is not None
    return Asked(asked.texts, isinstance(content["inputs"], list), asked.top if given else 0)


def asked_of_text_embeddings(content: Mapping[str, Any], limits: Limits) -> Asked:
    """Return the texts of {"inputs": ...} as Text Embeddings Inference takes them.

    "a" and ["a"] are one text; [["a"], ["b"]] (or a mixture of strings and lists) are several;
    ["a", "b"] is one pair there, which this model cannot answer.
    """
    inputs = _inputs(content, TEXT_EMBEDDINGS)
    if content.get("raw_scores") is not None and content["raw_scores"] is not False:
        raise _unfit("unsupported", "this model gives calibrated probabilities only; leave "
                     '"raw_scores" out')  # fmt: skip
    if isinstance(inputs, str):
        return Asked([_text(inputs, "inputs", limits)], False)
    if isinstance(inputs, list) and inputs and all(isinstance(item, str) for item in inputs):
        if len(inputs) > 1:
            raise _unfit("unsupported", '"inputs": a list of strings is a pair of texts, '
                         'which this model takes not; two texts are [["a"], ["b"]]')  # fmt: skip
        return Asked([_text(inputs[0], "inputs[0]", limits)], False)
    if not isinstance(inputs, list):
        raise _unfit("wrong_type", '"inputs" must be a string or a list')
    _need_few(len(inputs), "inputs", limits)
    texts = []
    for place, item in enumerate(inputs):
        if isinstance(item, list):
            if len(item) != 1:
                raise _unfit("wrong_type", f'"inputs[{place}]" must hold one string')
            item = item[0]
        texts.append(_text(item, f"inputs[{place}]", limits))
    return Asked(texts, True)


def prediction_json(said: Prediction) -> dict[str, Any]:
    """Return a prediction for JSON."""
    return {
        "label": said.label, "probability": said.probability, "tokens": said.tokens,
        "unknown": said.unknown, "truncated": said.truncated,
    }  # fmt: skip


def explanation_json(why: Explanation) -> dict[str, Any]:
    """Return an explanation for JSON."""
    return {
        "prediction": prediction_json(why.prediction),
        "logit": why.logit,
        "bias": why.bias,
        "words": [_evidence_json(word) for word in why.words],
        "sentences": [_evidence_json(sentence) for sentence in why.sentences],
    }


def scores_json(said: Prediction, labels: Sequence[str], top: int = 2) -> list[dict[str, Any]]:
    """Return labels with their probabilities, the likelier first: the shape of both others."""
    negative, positive = labels
    scores = [
        {"label": negative, "score": 1 - said.probability},
        {"label": positive, "score": said.probability},
    ]
    if said.probability > 0.5:
        scores.reverse()
    return scores[:top]


def encoded(content: Any) -> bytes:
    """Return JSON, in ASCII: a text may hold half a character, which has no UTF-8."""
    return ENCODER.encode(content).encode("ascii")


def error_json(code: str, message: str) -> bytes:
    """Return the one shape of all errors."""
    return encoded({"error": {"code": code, "message": message}})


def _evidence_json(of: Evidence) -> dict[str, Any]:
    return {"text": of.text, "start": of.start, "end": of.end, "evidence": of.evidence}


def _inputs(content: Mapping[str, Any], known: set[str]) -> Any:
    _need_only(content, known)
    if "inputs" not in content:
        raise _unfit("wrong_fields", 'give "inputs", a string or a list')
    return content["inputs"]


def _need_only(content: Mapping[str, Any], known: set[str]) -> None:
    if odd := sorted(content.keys() - known):
        # Not the name itself: whoever mistakes the shape may have sent a review as one.
        names = ", ".join(f'"{name}"' for name in sorted(known))
        raise _unfit("wrong_fields", f"{len(odd)} unknown field(s); known are {names}")


def _texts(given: object, name: str, limits: Limits) -> list[str]:
    if not isinstance(given, list):
        raise _unfit("wrong_type", f'"{name}" must be a list of strings')
    _need_few(len(given), name, limits)
    return [_text(item, f"{name}[{place}]", limits) for place, item in enumerate(given)]


def _need_few(texts: int, name: str, limits: Limits) -> None:
    if not texts:
        raise _unfit("wrong_type", f'"{name}" is empty; give at least one text')
    if texts > limits.texts:
        raise Refused(413, "too_many_texts", f'"{name}" holds {texts:,} texts; send at most '
                      f"{limits.texts:,} at a time")  # fmt: skip


def _text(given: object, name: str, limits: Limits) -> str:
    if not isinstance(given, str):
        kind = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
        raise _unfit(
            "wrong_type", f'"{name}" must be a string, not {kind.get(type(given), "a number")}'
        )
    if len(given) > limits.characters:
        raise Refused(413, "text_too_long", f'"{name}" has {len(given):,} characters; send at most '
                      f"{limits.characters:,} (the model is made for reviews)")  # fmt: skip
    return given


def _unfit(code: str, message: str) -> Refused:
    return Refused(422, code, message)
