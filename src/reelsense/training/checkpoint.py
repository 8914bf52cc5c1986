"""A run folder on disk: what it holds, how it is saved, how a run goes on from it.

`checkpoint/state.safetensors` is all that a run needs to go on, in one file that is replaced in
one step: weights, averaged weights, optimiser, and in its header the place in the run. Nothing
is pickled. `checkpoint/epoch-N.safetensors` are the weights that epoch N was measured with; the
best of them becomes `weights.safetensors`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from reelsense.atomic import write_atomically
from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe
from reelsense.model.settings import Settings, differences, flag

Tensors = dict[str, Tensor]
Kind = TypeVar("Kind", bound=Settings)
STARTING_WEIGHTS = "starting weights"  # the name of their hash in the data.json of a fine-tuning


@dataclass(frozen=True)
class Position:
    """The place of a run: everything that is not a tensor and not in the recipe.

    `step` counts the finished steps of the unfinished epoch `epoch` (from 1); `seen` and
    `epoch_seconds` are sums over them, `loss` and `correct` over their `labelled` rows.
    `steps_done` counts the steps of all epochs.
    """

    epoch: int = 1
    step: int = 0
    steps_done: int = 0
    loss: float = 0.0
    correct: int = 0
    labelled: int = 0
    seen: int = 0
    epoch_seconds: float = 0.0
    shards: int = 1

    def changed(self, **values: Any) -> "Position":
        """Return the position with other values."""
        return replace(self, **values)


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the tensors' names, shapes and bytes: equal weights, equal hash."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors and a header of texts to one safetensors file, whole or not at all."""
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(whole, metadata=dict(header)))


def load_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Read a safetensors file and its header.

    Raises:
        BadInput: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file; is the run folder complete?") from None
    except (SafetensorError, OSError) as error:
        raise BadInput(
            f"{path}: damaged ({error}); delete the run folder and train again"
        ) from None


def state_path(run: Path) -> Path:
    """Where the state of an unfinished run is."""
    return run / "checkpoint" / "state.safetensors"


def epoch_path(run: Path, epoch: int) -> Path:
    """Where the measured weights of an epoch are."""
    return run / "checkpoint" / f"epoch-{epoch}.safetensors"


def learning_tensors(weights: Tensors, optimizer: torch.optim.Adam) -> Tensors:
    """Return the weights and what Adam remembers of each, under names of their own, for saving."""
    kept = {f"weights.{name}": weight for name, weight in weights.items()}
    for name, weight in weights.items():
        for key, value in optimizer.state[weight].items():
            kept[f"adam.{key}.{name}"] = value
    return kept


def restore_learning(saved: Tensors, weights: Tensors, optimizer: torch.optim.Adam) -> None:
    """Put back what `learning_tensors` returned."""
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(saved[f"weights.{name}"])
            optimizer.state[weight] = {
                key: saved[f"adam.{key}.{name}"].to(weight.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }


def save_state(run: Path, tensors: Mapping[str, Tensor], position: Position) -> None:
    """Save everything that the run needs to go on."""
    save_tensors(state_path(run), tensors, {"position": json.dumps(asdict(position))})


def load_state(run: Path) -> tuple[Tensors, Position] | None:
    """Return the tensors and the position saved last, or None where nothing has been saved."""
    if not state_path(run).exists():
        return None
    tensors, header = load_tensors(state_path(run))
    try:
        return tensors, Position(**json.loads(header["position"]))
    except (KeyError, TypeError, json.JSONDecodeError):
        raise BadInput(
            f"{state_path(run)}: not the state of a run of this version; "
            "delete the run folder and train again"
        ) from None


def read_history(run: Path) -> list[dict[str, Any]]:
    """Return the records of `history.jsonl`, one an epoch; none where the file is missing."""
    path = run / "history.jsonl"
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{path}: damaged ({error}); delete the run folder and train again"
        ) from None


def write_history(run: Path, history: list[dict[str, Any]]) -> None:
    """Write `history.jsonl` whole."""
    write_atomically(run / "history.jsonl", "".join(json.dumps(line) + "\n" for line in history))


def best_epoch(history: list[dict[str, Any]]) -> int:
    """Return the number of the epoch with the lowest validation loss, the first of equals.

    The last one where no review was held out for validation.
    """
    if "validation" not in history[-1]:
        return int(history[-1]["epoch"])
    best = min(history, key=lambda record: record["validation"]["loss"])
    return int(best["epoch"])


def check_run(run: Path, recipe: Settings, resume: bool, fine_tuning: bool = False) -> bool:
    """Say whether there is a run to go on with; False means that a new one may begin there.

    Raises:
        BadInput: `resume` does not fit what is there, or it is another recipe's run.
    """
    if not run.exists() or (run.is_dir() and not any(run.iterdir())):
        if resume:
            raise BadInput(f"--resume: there is no run at {run}; leave --resume out to start one")
        return False
    if not resume:
        raise BadInput(
            f"{run}: exists already; --resume goes on with it, --run FOLDER starts another"
        )
    before, data = read_run_of(run, type(recipe))
    if (STARTING_WEIGHTS in data["hashes"]) != fine_tuning:
        how = "without --from; leave it out" if fine_tuning else "with --from; give the same again"
        raise BadInput(f"--resume: {run} was started {how}")
    if changed := differences(before, recipe):
        listed = "; ".join(
            f"{flag(key)} was {old}, is {new}" for key, (old, new) in changed.items()
        )
        raise BadInput(f"--resume: {run} was started with another recipe: {listed}")
    return True


def open_run(
    run: Path, recipe: Settings, source: Mapping[str, Any], hashes: Mapping[str, str], resume: bool
) -> None:
    """Make the folder of a new run, or check that a run there is the same one.

    Args:
        run: the folder.
        recipe: of the run; saved in the folder.
        source: how its reviews were read, so that they can be read again.
        hashes: of what it trains on and starts from; a run goes on with the same only.
        resume: go on with a run that is there.

    Raises:
        BadInput: the folder exists and `resume` is off, or it is another recipe's or data's run.
    """
    if not check_run(run, recipe, resume, STARTING_WEIGHTS in hashes):
        write_atomically(run / "recipe.toml", recipe.to_toml())
        content = {"source": dict(source), "hashes": dict(hashes)}
        write_atomically(run / "data.json", json.dumps(content, indent=2) + "\n")
        return
    before = read_run_of(run, type(recipe))[1]["hashes"]
    for key in {**before, **hashes}:  # a teacher too many or too few is another run as well
        if before.get(key) != hashes.get(key):
            raise BadInput(
                f"--resume: {run} was started with other {key}; "
                "give the same as then, or start another run with --run FOLDER"
            )


def read_run(run: Path) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe of a training and its `data.json`; see `read_run_of`."""
    return read_run_of(run, Recipe)


def read_run_of(run: Path, kind: type[Kind]) -> tuple[Kind, dict[str, Any]]:
    """Return the recipe of a run, of that kind, and its `data.json` ("source" and "hashes").

    Raises:
        BadInput: the folder is not that of a run.
    """
    saved = run / "recipe.toml"
    try:
        recipe = kind.from_toml(saved.read_text(encoding="utf-8"), str(saved))
        data = json.loads((run / "data.json").read_text(encoding="utf-8"))
        known = {"source": dict(data["source"]), "hashes": dict(data["hashes"])}
    except BadInput:  # a ValueError too, and it says more
        raise
    except (OSError, ValueError, TypeError, KeyError):
        raise BadInput(f"{run}: not the folder of a run; `reelsense train` makes one") from None
    return recipe, known


def is_finished(run: Path) -> bool:
    """Say whether a run has been trained and measured."""
    return (run / "report.html").exists() and not state_path(run).exists()


def finish_weights(run: Path, epoch: int) -> str:
    """Make the weights of an epoch the run's `weights.safetensors`; return their hash."""
    tensors, _ = load_tensors(epoch_path(run, epoch))
    digest = weights_hash(tensors)
    save_tensors(run / "weights.safetensors", tensors, {"epoch": str(epoch), "sha256": digest})
    return digest


def load_weights(run: Path) -> Tensors:
    """Return the weights of a finished run, checked against their hash.

    Raises:
        BadInput: there are none, or they are not what was saved.
    """
    path = run / "weights.safetensors"
    if run.is_dir() and not path.exists():
        raise BadInput(f"{run}: has no weights yet; finish it with `reelsense train --resume`")
    tensors, header = load_tensors(path)
    if header.get("sha256") != weights_hash(tensors):
        raise BadInput(f"{path}: the weights are not those that were saved; train again")
    return tensors


def clear_checkpoints(run: Path) -> None:
    """Delete what only an unfinished run needs."""
    for path in (run / "checkpoint").glob("*.safetensors"):
        path.unlink()
    if (run / "checkpoint").is_dir():
        (run / "checkpoint").rmdir()
