"""The trials of a study: who tries what, and what came of each.

Any number of processes, on several machines too, may work on one study: each claims a trial, and
tells what came of it. While a process lives it holds a lock in the study's folder, so that the
next one there sees at once what a killed one left undone; on other machines it is given up when
nothing has been heard of it for long. Such a trial is tried again.

Optuna (Akiba et al. 2019) proposes the values and keeps what came of them.
"""

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, Trial, TrialState

from reelsense.experiments.ranges import Range
from reelsense.experiments.storage import (
    DATABASE,
    LOCK,
    STATED,
    check_study,
    in_one_line,
    is_locked,
    locked,
    open_storage,
)

GIVEN_UP: Final = 1800  # seconds without a sign of life of a trial on another machine
TRIES: Final = 3  # a trial cut off as often has failed: it may be what kills the process
STEPS: Final = 1000  # trials are compared after equal shares of their epochs, in thousandths
# Not before the rate of a one-cycle run falls: what ends well with a high rate begins badly.
FIRST_LOOK: Final = 400
ENOUGH: Final = 10  # whole trials without which nothing can be said of what mattered


@dataclass(frozen=True, eq=False)
class Joined:
    """A study as one process works on it; `owner` is that process's name in it."""

    study: optuna.Study
    folder: Path
    ranges: Sequence[Range]
    owner: str


class _Sampler(optuna.samplers.BaseSampler):
    """TPE (Bergstra et al. 2011) whose chance comes from the seed and the number of the trial.

    Optuna's own begins with the process: one that goes on with a study, or a second one with the
    same seed, would propose what has been proposed already.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        chance = np.random.SeedSequence([self._seed, trial.number]).generate_state(1)
        self._of_trial = optuna.samplers.TPESampler(seed=int(chance[0]))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._of_trial.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of_trial.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._of_trial.sample_independent(study, trial, param_name, param_distribution)


# --- Opening --------------------------------------------------------------------------------------


@contextlib.contextmanager
def joined(
    folder: Path, url: str | None, stated: Mapping[str, Any], ranges: Sequence[Range]
) -> Iterator[Joined]:
    """Begin the study of a folder, or go on with it, until the end of the block.

    Args:
        folder: of the study; its name is the study's in the storage.
        url: of the storage; SQLite in the folder without one.
        stated: what the study is, see `check_study`.
        ranges: the fields that are searched.

    Raises:
        BadInput: it is another study, or no storage is there.
        Failure: the storage cannot be reached or written.
    """
    owner = uuid.uuid4().hex
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    alive = folder / "trials" / f"{owner}.alive"
    with in_one_line(folder, url), contextlib.ExitStack() as life:
        with locked(folder / LOCK):  # who looks for the dead holds it too
            study = _open_or_begin(folder, url, stated, ranges)
            life.enter_context(locked(alive))
        yield Joined(study, folder, ranges, owner)
        alive.unlink()  # after an error it stays: the next process sees what is left undone


def refuse_another(folder: Path, url: str | None, stated: Mapping[str, Any]) -> None:
    """Refuse, before any work, to go on with a study of this name that is another.

    Raises:
        BadInput: as `joined`.
        Failure: as `joined`.
    """
    if url is None and not (folder / DATABASE).exists():
        return
    with contextlib.ExitStack() as held, in_one_line(folder, url):
        if url is None:  # another process may be making it
            held.enter_context(locked(folder / LOCK))
        storage = open_storage(folder, url)
        with contextlib.suppress(KeyError):  # no study has that name yet
            study = optuna.load_study(storage=storage, study_name=folder.resolve().name)
            check_study(folder, study, stated)


def _open_or_begin(
    folder: Path, url: str | None, stated: Mapping[str, Any], ranges: Sequence[Range]
) -> optuna.Study:
    """Return the study; a new one begins with the recipe as it is, where the ranges hold it."""
    recipe = stated["recipe"]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=open_storage(folder, url),
        study_name=folder.resolve().name,
        sampler=_Sampler(recipe["seed"]),
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=FIRST_LOOK),
        load_if_exists=True,
    )
    if STATED not in study.user_attrs and not study.get_trials(deepcopy=False):
        study.set_user_attr(STATED, dict(stated))
        if all(each.holds(recipe[each.name]) for each in ranges):
            usual = {each.name: recipe[each.name] for each in ranges}
            study.enqueue_trial(usual, {"as it is": True}, skip_if_exists=True)
    check_study(folder, study, stated)
    return study


# --- Trials ---------------------------------------------------------------------------------------


def claim(joined: Joined, wanted: int) -> Trial | None:
    """Begin the next trial; None when `wanted` have ended or are being tried.

    One that was cut off comes before a new one.
    """
    with locked(joined.folder / LOCK):
        _give_back_the_dead(joined)
        if sum(map(_counts, joined.study.get_trials(deepcopy=False))) >= wanted:
            return None
        trial = joined.study.ask({each.name: _distribution(each) for each in joined.ranges})
        trial.set_user_attr("owner", joined.owner)
        show_life(trial)
        if "folder" not in trial.user_attrs:
            trial.set_user_attr("folder", f"{trial.number}-{joined.owner[:8]}")
        return trial


def show_life(trial: Trial) -> None:
    """Let processes on other machines know that the trial goes on."""
    trial.set_user_attr("heard of", time.time())


def folder_of(joined: Joined, trial: Trial | FrozenTrial) -> Path:
    """Return where a trial trains; one that is tried again goes on there."""
    return joined.folder / "trials" / str(trial.user_attrs["folder"])


def finish(joined: Joined, trial: Trial, figures: Mapping[str, Any], pruned: bool) -> None:
    """Tell what came of a trial: "loss" is what the study makes small; the rest is shown."""
    trial.set_user_attr("figures", dict(figures))
    if pruned:  # Optuna takes the last loss that was reported
        joined.study.tell(trial, state=TrialState.PRUNED)
    else:
        joined.study.tell(trial, figures["loss"])
    shutil.rmtree(folder_of(joined, trial), ignore_errors=True)


def known_already(joined: Joined, trial: Trial) -> bool:
    """Tell of a trial what came of another with the same values, if one ran to its end.

    A training of the same recipe gives the same figures, and of a few lists TPE proposes some
    values again and again.
    """
    whole = joined.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    same = next((each for each in whole if each.params == trial.params), None)
    if same is None:
        return False
    for step, loss in same.intermediate_values.items():
        trial.report(loss, step)
    finish(joined, trial, {**same.user_attrs["figures"], "seconds": 0.0}, pruned=False)
    return True


def fail(joined: Joined, trial: Trial, reason: str) -> None:
    """Tell that a trial cannot be trained, and why.

    To Optuna it is a pruned one: from those TPE learns what not to propose, from failed ones not.
    """
    trial.set_user_attr("reason", " ".join(reason.split()))
    joined.study.tell(trial, state=TrialState.PRUNED)
    shutil.rmtree(folder_of(joined, trial), ignore_errors=True)


def give_back(joined: Joined, trial: Trial) -> None:
    """Leave a trial to be tried again, from where its folder says."""
    trial.set_user_attr("given back", True)
    joined.study.tell(trial, state=TrialState.FAIL)
    _try_again(joined, trial, trial.user_attrs.get("tries", 1))


def _give_back_the_dead(joined: Joined) -> None:
    """Leave what killed processes were trying to be tried again; the caller holds the lock."""
    held = {path.stem: is_locked(path) for path in joined.folder.glob("trials/*.alive")}
    for trial in joined.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        known, begun = trial.user_attrs, trial.datetime_start
        heard_of = known.get("heard of", begun.timestamp() if begun else 0.0)
        if held.get(known.get("owner", ""), time.time() - heard_of < GIVEN_UP):
            continue
        try:
            joined.study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            continue  # a process on another machine was quicker
        tries = known.get("tries", 1)
        if tries < TRIES and len(trial.params) == len(joined.ranges):
            _try_again(joined, trial, tries + 1)
        elif "folder" in known:
            shutil.rmtree(folder_of(joined, trial), ignore_errors=True)
    for owner, is_held in held.items():
        if not is_held:
            (joined.folder / "trials" / f"{owner}.alive").unlink()


def _try_again(joined: Joined, trial: Trial | FrozenTrial, tries: int) -> None:
    """Put the values of a trial first in the line; `tries` counts the new one too."""
    kept: dict[str, Any] = {
        key: trial.user_attrs[key] for key in ("folder", "as it is") if key in trial.user_attrs
    }
    joined.study.enqueue_trial(trial.params, {**kept, "tries": tries})


def _counts(trial: FrozenTrial) -> bool:
    """Say whether a trial is one of those that were asked for, not one that is yet to be."""
    return state_of(trial) not in ("cut off", "waiting")


def state_of(trial: FrozenTrial) -> str:
    """Return complete, pruned, failed, running, waiting, or cut off if it is tried again."""
    known = trial.user_attrs
    if trial.state == TrialState.FAIL:
        again = "given back" in known or known.get("tries", 1) < TRIES
        return "cut off" if again else "failed"
    return "failed" if "reason" in known else trial.state.name.lower()


def _distribution(searched: Range) -> BaseDistribution:
    """Return a range as Optuna knows it."""
    if searched.choices:
        return CategoricalDistribution(searched.choices)
    if isinstance(searched.low, int):
        return IntDistribution(searched.low, int(searched.high), log=searched.log)
    return FloatDistribution(searched.low, searched.high, log=searched.log)


# --- What came of them ----------------------------------------------------------------------------


def rows_of(joined: Joined) -> list[dict[str, Any]]:
    """Return what is known of each trial, by its number; "loss" and what follows may be None."""
    shown = ("loss", "accuracy", "epoch", "epochs", "seconds")
    killed = f"its process was killed {TRIES} times"
    return [
        {
            "trial": trial.number,
            "state": state_of(trial),
            **{key: trial.user_attrs.get("figures", {}).get(key) for key in shown},
            "as_it_is": "as it is" in trial.user_attrs,
            "reason": trial.user_attrs.get("reason", killed)
            if state_of(trial) == "failed"
            else None,
            "values": {each.name: trial.params.get(each.name) for each in joined.ranges},
        }
        for trial in joined.study.get_trials(deepcopy=False)
    ]


def best_of(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the whole trial with the lowest loss, the first of equals; None where none is."""
    whole = [row for row in rows if row["state"] == "complete"]
    return min(whole, key=lambda row: row["loss"], default=None)


def importance(joined: Joined) -> dict[str, float]:
    """Return the share of the spread of the losses that each field explains alone, by its size.

    fANOVA (Hutter et al. 2014) on the trials that ran to their end; none where those are few.
    """
    whole = joined.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(whole) < ENOUGH or len({trial.value for trial in whole}) == 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, seed=0)
    found = evaluator.evaluate(joined.study)
    return {name: float(share) for name, share in found.items()}
