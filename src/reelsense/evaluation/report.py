"""A run folder -> report.html: one self-contained page that a learner can read from top to bottom.

Reads the files of a run folder and writes sentences and tables around them; measures nothing.
The page has no script and loads nothing: pictures are inside it as data URIs.
"""

import functools
import json
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Template, UndefinedError

from reelsense.atomic import write_atomically
from reelsense.errors import BadInput
from reelsense.evaluation.page import as_uri, template

# name of the file: what it is, for the list at the end of the page
FILES = {
    "recipe.toml": "every setting of this run",
    "history.jsonl": "a line an epoch: loss and accuracy of each part, seconds",
    "metrics.json": "every figure on this page",
    "predictions.csv": "what each review that was held out is and got, from the baseline too",
    "environment.json": "versions, machine, command, hashes",
    "checkpoint": "the weights (safetensors)",
    "accuracy.png": "accuracy by epoch",
    "loss.png": "loss by epoch",
    "confusion.png": "right and wrong",
    "roc.png": "ROC curve",
    "calibration.png": "are the probabilities true?",
    "data.png": "the data in pictures",
}
PARTS = ("train", "validation", "test")
Json = dict[str, Any]


def write_report(run: Path, excerpts: Mapping[str, str] | None = None) -> Path:
    """Write `run`/report.html from the files in the run folder, and return its path.

    Only metrics.json is needed, with an evaluation of the test reviews, or else of validation, or
    with a "split" that held out neither: the page then says so. Whatever else is missing (a
    picture, the baseline, the history, the environment) is left out. `excerpts` maps the ids of
    reviews to some of their text, shown beside the most confident mistakes.

    Raises:
        BadInput: metrics.json is missing or has no evaluation, or a file is not what its
            name says. The message names the file.
    """
    source = run / "metrics.json"
    metrics = _json(source)
    if not isinstance(metrics, dict) or not (_part(metrics) or _held_out_none(metrics)):
        raise BadInput(f"{source}: no test evaluation in it; run `reelsense evaluate` first")
    try:
        page = _template().render(_content(run, metrics, excerpts or {}))
    except (KeyError, TypeError, UndefinedError) as error:
        said = f"{type(error).__name__}: {error}"
        raise BadInput(
            f"{run}: history.jsonl or metrics.json lacks what this version writes ({said}); "
            "run `reelsense evaluate` again"
        ) from error
    path = run / "report.html"
    write_atomically(path, page)
    return path


def _content(run: Path, metrics: Json, excerpts: Mapping[str, str]) -> Json:
    """All that the template may ask for."""
    history, best_epoch = _history(run / "history.jsonl"), metrics.get("best_epoch")
    data, part = metrics.get("data") or {}, _part(metrics)
    return {
        "name": run.resolve().name,
        "m": metrics,
        "part": part,
        "result": metrics[part] if part else None,
        "baseline": metrics.get("baseline") or {},
        "comparison": _comparison_in_words(metrics),
        "history": history,
        "curves_of": [name for name in PARTS if any(row.get(name) for row in history)],
        "curves": _curves_in_words(history, best_epoch),
        "data": data,
        "split": metrics.get("split") or {},
        "leaks": _leaks_in_words(data.get("leaks") or {}),
        "coverage": metrics.get("coverage") or {},
        "recipe": _recipe(run / "recipe.toml"),
        "environment": _environment(run / "environment.json"),
        "pictures": _pictures(run),
        "excerpts": {name: re.sub(r"<br\s*/?>", " ", text) for name, text in excerpts.items()},
        "files": [(name, what) for name, what in FILES.items() if (run / name).exists()],
    }


def _part(metrics: Json) -> str | None:
    """The part that says how good the run is: the test, else validation, else none."""
    return next((part for part in ("test", "validation") if metrics.get(part)), None)


def _held_out_none(metrics: Json) -> bool:
    split = metrics.get("split") or {}
    return split.get("validation") == split.get("test") == 0


# --- Sentences ------------------------------------------------------------------------------------


def _comparison_in_words(metrics: Json) -> Json | None:
    """The network against the linear baseline: a verdict, its reason, and who won."""
    baseline, test = metrics.get("baseline") or {}, metrics.get("mcnemar") or {}
    part = _part(metrics)
    if part is None or not baseline.get(part):
        return None
    gap = metrics[part]["accuracy"] - baseline[part]["accuracy"]
    points = f"{abs(gap) * 100:.1f} points"
    if not test:
        who = "higher" if gap > 0 else "lower"
        verdict = f"The network's accuracy is {points} {who} than the linear baseline's."
        reason = "Whether that is more than chance was not tested."
        return {"verdict": verdict, "reason": reason, "won": None}
    p, only_network, only_linear = test["p_value"], test["only_a"], test["only_b"]
    reason = (
        f"Both are right or both wrong on {test['both'] + test['neither']:,} of {test['n']:,} "
        f"reviews, which says nothing about who is better. Of the other "
        f"{only_network + only_linear:,}, the network alone is right on {only_network:,}, the "
        f"linear model alone on {only_linear:,}. If the two were equally good, a split at least "
        f"this uneven would come up {_chance(p)} (McNemar's exact test, {_p_value(p)})."
    )
    if p >= 0.05:
        verdict = (
            "This test cannot tell the network from the linear baseline: "
            f"the difference of {points} is within what chance does."
        )
        return {"verdict": verdict, "reason": reason, "won": None}
    if gap > 0:
        verdict = f"The network beats the linear baseline by {points}, more than chance explains."
        return {"verdict": verdict, "reason": reason, "won": True}
    verdict = (
        f"The network loses to the linear baseline by {points}, more than chance explains. "
        "Counting words and word pairs does better here, at a fraction of the cost."
    )
    return {"verdict": verdict, "reason": reason, "won": False}


def _p_value(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def _chance(p: float) -> str:
    if p >= 0.1:
        return f"{p:.0%} of the time"
    if p < 0.0001:
        return "less than once in 10,000 times"
    return f"about once in {float(f'{1 / p:.2g}'):,.0f} times"


def _curves_in_words(history: list[Json], best_epoch: int | None) -> list[str]:
    """What this run's curves show: where validation turned and how wide the gap to train became."""
    rows = [row for row in history if row.get("validation") and row.get("train")]
    if not rows:
        return []
    lowest, last = min(rows, key=lambda row: float(row["validation"]["loss"])), rows[-1]
    if lowest is last:
        words = [
            f"Validation loss is lowest in the last epoch ({last['epoch']}): the network had not "
            "begun to overfit, and more epochs might have helped."
        ]
    else:
        turn, end = lowest["validation"]["loss"], last["validation"]["loss"]
        start, finish = lowest["train"]["loss"], last["train"]["loss"]
        said = f"Validation loss is lowest after epoch {lowest['epoch']} ({turn:.3f})"
        words = [
            f"{said} and has hardly moved since ({end:.3f} at the end)."
            if end < 1.01 * turn
            else f"{said} and {end:.3f} at the end, while train loss went from {start:.3f} to "
            f"{finish:.3f}. What is learned there helps on the training reviews only: overfitting."
        ]
    kept = _row(history, best_epoch)
    if kept and kept.get("train") and kept.get("validation"):
        gap = kept["train"]["accuracy"] - kept["validation"]["accuracy"]
        words.append(
            f"The weights of epoch {best_epoch} were kept. There, accuracy on train is "
            f"{abs(gap) * 100:.1f} points {'above' if gap >= 0 else 'below'} validation."
        )
    return words


def _leaks_in_words(leaks: Json) -> list[tuple[str, str]]:
    """Whatever the leak report counts as (what, how many), one row for each of its entries."""

    def words(value: Any) -> str:
        if isinstance(value, Mapping):
            return " · ".join(f"{_spaced(key)}: {words(inner)}" for key, inner in value.items())
        if isinstance(value, list):
            return ", ".join(map(words, value)) or "none"
        if isinstance(value, int | float) and not isinstance(value, bool):
            return f"{value:,}"
        return "not known" if value is None else _plain(value)

    return [(_spaced(key), words(value)) for key, value in leaks.items()]


def _spaced(key: str) -> str:
    return key.replace("_", " ")


# --- Files of the run folder ----------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path}: not found; is this a finished run folder?") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read ({error})") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: line {error.lineno} is not JSON ({error.msg})") from error


def _history(path: Path) -> list[Json]:
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise BadInput(f"{path}: line {number} is not JSON ({error.msg})") from error
    return rows


def _row(history: list[Json], epoch: int | None) -> Json | None:
    return next((row for row in history if row.get("epoch") == epoch), None)


def _recipe(path: Path) -> list[tuple[str, str]]:
    if not path.exists():
        return []
    try:
        return [(key, _plain(value)) for key, value in tomllib.loads(_read(path)).items()]
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path}: not TOML ({error})") from error


def _environment(path: Path) -> list[tuple[str, str]]:
    found = _json(path) if path.exists() else {}
    if not isinstance(found, dict):
        raise BadInput(f"{path}: must be a JSON object")
    return [(_spaced(key), _plain(value)) for key, value in found.items()]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pictures(run: Path) -> dict[str, str]:
    """Name without .png -> data URI, for the pictures that are there."""
    paths = (run / name for name in FILES if name.endswith(".png"))
    return {path.stem: as_uri(path) for path in paths if path.is_file()}


@functools.cache
def _template() -> Template:
    source = resources.files("reelsense.evaluation").joinpath("report.html.j2").read_text("utf-8")
    return template(source)
