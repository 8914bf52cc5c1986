"""Texts to labels, probabilities and evidence, with a bundle.

A text is read whole, whatever its length up to the bundle's `longest` tokens; `truncated` says
where it was not. Texts of like length share a batch, results come in the caller's order, and a
text gets the same answer, to the last bit, whatever stands beside it.

What is no text: None, NaN and pandas.NA are answered as an empty text is ("uncertain", 0 tokens),
so that a column with gaps keeps its rows. Anything else that is not a string is a BadInput that
names its place: before any work where the texts are a list, an array or a Series; of an iterator,
after what stands before it has been answered.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from reelsense.bundle.folder import MODEL, SHIPPED, Bundle, folder_of, read_bundle
from reelsense.bundle.session import batches, open_session, run, without_evidence
from reelsense.cores import available_cores
from reelsense.errors import BadInput
from reelsense.inference.answers import Evidence, Explanation, Prediction
from reelsense.inference.scores import Scores, by_sentence
from reelsense.text.tokenizer import UNKNOWN, shorten

# Texts that are sorted by length together: enough for batches without padding, and few enough
# that a generator of any length is read in constant memory.
CHUNK = 2048
# Texts that a thread encodes and scores before it takes the next ones.
TASK = 32


class Predictor:
    """A bundle that answers. Safe to share between threads; pickles as its path.

    model("text") is a Prediction and model(texts) a list of them. `predict` and `predict_proba`
    are scikit-learn's: arrays over `classes_`, where nothing is "uncertain".

    Where there is a `second` bundle, it reads again what the first is uncertain of, and its answer
    counts: a small network and a large one together are nearly as fast as the one and nearly as
    often right as the other.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int | None = None,
        confidence: float | None = None,
        second: Bundle | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise BadInput(f"threads {threads}: must be at least 1")
        if confidence is not None and not 0.5 <= confidence <= 1:
            raise BadInput(f"confidence {confidence}: must lie between 0.5 and 1")
        self.bundle = bundle
        self.threads = threads or available_cores()
        self.confidence = bundle.about["confidence"] if confidence is None else confidence
        self.classes_ = np.array(bundle.about["labels"])
        self.second = None if second is None else Predictor(second, threads, confidence)
        self._given = (threads, confidence)
        self._session = open_session(without_evidence(bundle.model), self._model_name)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        second = None if self.second is None else self.second.bundle.path
        return load, (self.bundle.path, *self._given, second)

    def __repr__(self) -> str:
        about = self.about
        return f"Predictor({about['name']}, {about['variant']}, threads={self.threads})"

    @property
    def _model_name(self) -> str:
        return str(self.bundle.path / MODEL)

    @cached_property
    def _explaining_session(self) -> Any:
        """The session of the whole graph; few who predict ever ask for evidence."""
        return open_session(self.bundle.model, self._model_name)

    @property
    def about(self) -> Mapping[str, Any]:
        """What bundle.json says: recipe, figures and how they were measured, limits."""
        return self.bundle.about

    @overload
    def __call__(self, texts: str) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, texts: Iterable[str | None]) -> list[Prediction]: ...
    def __call__(self, texts: str | Iterable[str | None]) -> Prediction | list[Prediction]:
        """Return the prediction of a text, or those of many in their order."""
        if isinstance(texts, str):
            return self._predictions(self._read_twice([texts]))[0]
        return list(self.stream(texts))

    def stream(self, texts: Iterable[str | None]) -> Iterator[Prediction]:
        """Yield the predictions of any number of texts in constant memory.

        Raises:
            BadInput: an item is not a text; what stands before it has been yielded.
        """
        for scores in self._chunks(texts):
            yield from self._predictions(scores)

    def predict(self, texts: Iterable[str | None]) -> NDArray[np.str_]:
        """Return the more likely of `classes_` for each text (n,)."""
        return self.classes_[(self.predict_proba(texts)[:, 1] >= 0.5).astype(np.intp)]

    def predict_proba(self, texts: Iterable[str | None]) -> NDArray[np.float64]:
        """Return the calibrated probabilities (n, 2), a column for each of `classes_`."""
        parts = [scores.probability for scores in self._chunks(texts)]
        positive = np.concatenate([np.empty(0), *parts])
        return np.stack([1 - positive, positive], axis=1)

    def explain(self, text: str) -> Explanation:
        """Return what each word and each sentence of a text adds to the logit.

        Exact: the sum over the words and the bias is the logit (to 1e-4, float32 being what it is;
        where evidence of thousands cancels, as with wild weights, to seven digits of it).

        Raises:
            BadInput: not a text, or the network's last layers do not let the logit be split.
        """
        if not isinstance(text, str):
            raise BadInput(f"explain takes one text, not {_named(text)}")
        if not self.about["evidence"]:
            raise BadInput(
                f"{self.bundle.path}: its network has no exact evidence (it needs pooling by max, "
                "mean or attention, --dense 0, and another --arch than dpcnn)"
            )
        ids, offsets = self.bundle.tokenizer.encode_with_offsets(text)
        places = self._shortened(np.arange(len(ids), dtype=np.int32))
        outputs = ["probability", "logit", "evidence"]
        probability, logit, evidence = run(self._explaining_session, [ids[places]], outputs)
        words = tuple(
            Evidence(text[start:end], start, end, value)
            for (start, end), value in zip(
                offsets[places].tolist(), evidence[0, : len(places)].tolist(), strict=True
            )
        )
        scores = Scores(
            probability.astype(np.float64),
            np.array([self.confidence]),
            np.array([len(ids)]),
            np.array([_share_unknown(ids)]),
            np.array([len(places) < len(ids)]),
        )
        if self.second is not None and scores.unsure(self.about["confidence"]).all():
            return self.second.explain(text)
        return Explanation(
            prediction=self._predictions(scores)[0],
            logit=float(logit[0]),
            bias=self.about["bias"],
            words=words,
            sentences=by_sentence(text, words),
        )

    def _predictions(self, scores: Scores) -> list[Prediction]:
        """Return scores as predictions."""
        negative, positive = self.about["labels"]
        labels = np.where(scores.probability >= 0.5, positive, negative)
        undecided = scores.unsure(scores.confidence) | (scores.tokens == 0)
        labels = np.where(undecided, "uncertain", labels)
        return [
            Prediction(*row)
            for row in zip(
                labels.tolist(),
                scores.probability.tolist(),
                scores.tokens.tolist(),
                scores.unknown.tolist(),
                scores.truncated.tolist(),
                strict=True,
            )
        ]

    def _chunks(self, texts: Iterable[str | None]) -> Iterator[Scores]:
        """Yield the scores of the texts, a chunk at a time."""
        # A table and an array of several dimensions are iterable too, over what is no text.
        single = isinstance(texts, (str, bytes, Mapping)) or getattr(texts, "ndim", 1) != 1
        if single or not isinstance(texts, Iterable):
            raise BadInput(f"give a list of texts (one column of a table), not {_named(texts)}")
        if not isinstance(texts, Iterator):
            for place, item in enumerate(texts):
                _as_text(item, place)
        items = enumerate(texts)
        wrong = None
        while wrong is None and (chunk := list(islice(items, CHUNK))):
            read: list[str] = []
            try:
                read.extend(_as_text(item, place) for place, item in chunk)
            except BadInput as error:
                wrong = error
            if read:
                yield self._read_twice(read)
        if wrong is not None:
            raise wrong

    def _read_twice(self, texts: list[str]) -> Scores:
        """Return the scores of a chunk, in its order: the second's where the first is unsure."""
        scores = self._read(texts)
        if self.second is None:
            return scores
        (unsure,) = scores.unsure(self.about["confidence"]).nonzero()
        if not len(unsure):
            return scores
        again = self.second._read([texts[row] for row in unsure])
        for field in fields(scores):
            getattr(scores, field.name)[unsure] = getattr(again, field.name)
        return scores

    def _read(self, texts: list[str]) -> Scores:
        """Return the scores of a chunk, in its order.

        Threads take groups of texts of like length, the longest first, so that they end together.
        Each encodes its texts itself: encoded by one thread, the others would wait for Python's
        lock between any two batches.
        """
        scores = Scores(
            np.zeros(len(texts)),
            np.full(len(texts), self.confidence),
            np.zeros(len(texts), np.int64),
            np.zeros(len(texts)),
            np.zeros(len(texts), np.bool_),
        )
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        size = min(TASK, -(-len(texts) // self.threads))
        groups = [order[first : first + size] for first in range(0, len(order), size)]
        if len(groups) == 1:
            self._read_group(texts, groups[0], scores)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(lambda rows: self._read_group(texts, rows, scores), groups))
        return scores

    def _read_group(self, texts: list[str], rows: list[int], scores: Scores) -> None:
        """Encode and score the texts of some rows, and enter what they get."""
        encoded = [self.bundle.tokenizer.encode(texts[row]) for row in rows]
        read = [self._shortened(ids) for ids in encoded]
        for row, ids, kept in zip(rows, encoded, read, strict=True):
            scores.tokens[row] = len(ids)
            scores.unknown[row] = _share_unknown(ids)
            scores.truncated[row] = len(kept) < len(ids)
        for batch in batches([len(ids) for ids in read]):
            (found,) = run(self._session, [read[place] for place in batch], ["probability"])
            scores.probability[[rows[place] for place in batch]] = found

    def _shortened(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return what the network reads of a text's ids: all, but for very long texts."""
        return shorten(ids, self.about["longest"], self.about["keep"])


def load(
    path: str | Path | None = None,
    threads: int | None = None,
    confidence: float | None = None,
    second: str | Path | None = None,
) -> Predictor:
    """Open a bundle: one that comes with the package, or a folder.

    Args:
        path: "small" (the one by default) or "accurate", of the package; or a folder that
            `reelsense export` made ("./small" or a Path where it has such a name).
        threads: processor cores to use; by default all that the process may use.
        confidence: least max(P, 1 - P) of a decided label, 0.5 to 1; the bundle's by default.
        second: another bundle, which reads again what the first is uncertain of; as in
            load("small", second="accurate").

    Raises:
        BadInput: the folder is not a bundle, or is damaged, or the package came without it.
    """
    bundle = read_bundle(folder_of(SHIPPED if path is None else path))
    again = None if second is None else read_bundle(folder_of(second))
    return Predictor(bundle, threads, confidence, again)


def _share_unknown(ids: NDArray[np.int32]) -> float:
    """Return the share of the tokens that have no vector of their own."""
    return float(np.count_nonzero(ids == UNKNOWN) / len(ids)) if len(ids) else 0.0


def _as_text(item: object, place: int) -> str:
    """Return a text, or an empty one for None, NaN and pandas.NA (known without pandas)."""
    if isinstance(item, str):
        return item
    is_nan = isinstance(item, (float, np.floating)) and np.isnan(item)
    if is_nan or item is None or type(item).__name__ == "NAType":
        return ""
    raise BadInput(f"texts[{place}]: {_named(item)} is not a text")


def _named(item: object) -> str:
    """Return an item and its kind, shortened, for an error."""
    shown = " ".join(repr(item).split())
    return f"{shown[:40]}{'...' if len(shown) > 40 else ''} ({type(item).__name__})"
