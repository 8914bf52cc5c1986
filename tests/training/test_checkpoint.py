import errno
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reelsense.errors import BadInput, Failure
from reelsense.model.recipe import Recipe
from reelsense.training import checkpoint
from reelsense.training.checkpoint import (
    STARTING_WEIGHTS,
    Position,
    best_epoch,
    check_run,
    clear_checkpoints,
    epoch_path,
    finish_weights,
    load_state,
    load_tensors,
    load_weights,
    open_run,
    read_history,
    read_run,
    save_state,
    save_tensors,
    state_path,
    weights_hash,
    write_history,
)

RECIPE = Recipe(name="toy", hidden=4)
SOURCE = {"source": "reviews.csv", "text_column": None}
HASHES = {"reviews": "aa", "vectors": "bb"}


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "embedding.weight": torch.randn(7, 3, generator=generator),
        "output.bias": torch.randn(1, generator=generator),
        "adam.step": torch.tensor(12.0),
    }


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def run(tmp_path):
    """A run that has begun."""
    open_run(tmp_path / "run", RECIPE, SOURCE, HASHES, resume=False)
    return tmp_path / "run"


@pytest.fixture
def finished(run):
    """A run with its weights."""
    save_tensors(epoch_path(run, 2), tensors(), {})
    finish_weights(run, 2)
    return run


# --- Saving and loading ---------------------------------------------------------------------------


@given(st.builds(Position, epoch=st.integers(1, 9), step=st.integers(0, 9), loss=st.floats(0, 9)))
def test_a_position_comes_back_from_json_to_the_last_bit(position):
    header = json.dumps(checkpoint.asdict(position))
    assert Position(**json.loads(header)) == position


def test_the_state_comes_back(run):
    assert load_state(run) is None
    position = Position(3, 7, 41, loss=0.1 + 0.2, correct=5, seen=9, epoch_seconds=1.5, shards=2)
    save_state(run, tensors(), position)
    loaded, place = load_state(run)
    assert equal(loaded, tensors())
    assert place == position
    assert position.changed(step=8).step == 8


def test_saving_again_replaces_the_state(run):
    save_state(run, tensors(0), Position(step=1))
    save_state(run, tensors(1), Position(step=2))
    loaded, place = load_state(run)
    assert equal(loaded, tensors(1))
    assert place.step == 2
    assert files(run / "checkpoint") == ["state.safetensors"]


def test_tensors_that_are_views_are_saved_as_what_they_show(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    save_tensors(tmp_path / "x", {"turned": whole.T, "part": whole[:, 1]}, {"note": "a"})
    loaded, header = load_tensors(tmp_path / "x")
    assert equal(loaded, {"turned": whole.T, "part": whole[:, 1]})
    assert header == {"note": "a"}


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_state_that_is_cut_short_is_refused_with_its_path_and_what_to_do(run, keep):
    save_state(run, tensors(), Position())
    whole = state_path(run).read_bytes()
    state_path(run).write_bytes(whole[:keep])
    with pytest.raises(BadInput) as caught:
        load_state(run)
    assert str(state_path(run)) in str(caught.value)
    assert "damaged" in str(caught.value)
    assert "delete the run folder and train again" in str(caught.value)


def test_a_state_of_random_bytes_is_refused(run):
    save_state(run, tensors(), Position())
    state_path(run).write_bytes(bytes(range(256)) * 4)
    with pytest.raises(BadInput, match="damaged"):
        load_state(run)


@pytest.mark.parametrize(
    "header", [{}, {"position": "no json"}, {"position": "[1]"}, {"position": '{"epok": 1}'}]
)
def test_a_state_without_a_position_is_refused(run, header):
    save_tensors(state_path(run), tensors(), header)
    with pytest.raises(BadInput, match="not the state of a run of this version"):
        load_state(run)


def test_a_missing_file_of_tensors_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"none\.safetensors: there is no such file"):
        load_tensors(tmp_path / "none.safetensors")


def test_the_history_comes_back(run):
    assert read_history(run) == []
    history = [{"epoch": n, "validation": {"loss": loss}} for n, loss in ((1, 0.5), (2, 0.1 + 0.2))]
    write_history(run, history)
    assert read_history(run) == history
    assert len((run / "history.jsonl").read_text().splitlines()) == 2


def test_a_damaged_history_is_refused(run):
    (run / "history.jsonl").write_text('{"epoch": 1}\n{"epo')
    with pytest.raises(BadInput, match=r"history\.jsonl: damaged"):
        read_history(run)


def test_the_best_epoch_is_the_first_with_the_lowest_validation_loss():
    losses = [0.5, 0.3, 0.4, 0.3]
    history = [{"epoch": n, "validation": {"loss": loss}} for n, loss in enumerate(losses, 1)]
    assert best_epoch(history) == 2


# --- Hashes ---------------------------------------------------------------------------------------


def test_without_validation_the_last_epoch_is_the_one_to_keep():
    assert best_epoch([{"epoch": n, "train": {"loss": n}} for n in (1, 2, 3)]) == 3


def test_equal_weights_have_an_equal_hash_whatever_their_order_or_layout():
    some = tensors()
    backwards = dict(reversed(some.items()))
    strided = some | {"embedding.weight": some["embedding.weight"].T.contiguous().T}
    assert weights_hash(some) == weights_hash(backwards) == weights_hash(strided)


def test_another_bit_name_shape_type_or_number_is_another_hash():
    some = tensors()
    table = some["embedding.weight"]
    nudged = table.clone()
    nudged[3, 1] = torch.nextafter(nudged[3, 1], torch.tensor(9.0))
    others = [
        some | {"embedding.weight": nudged},
        some | {"embedding.weight": table.reshape(3, 7)},
        some | {"embedding.weight": table.view(torch.int32)},
        some | {"adam.step": torch.tensor(13.0)},
        {name.upper(): weight for name, weight in some.items()},
    ]
    hashes = {weights_hash(some), *map(weights_hash, others)}
    assert len(hashes) == 6


# --- Run folders ----------------------------------------------------------------------------------


def test_a_new_run_says_what_it_is(run):
    assert files(run) == ["data.json", "recipe.toml"]
    recipe, data = read_run(run)
    assert recipe == RECIPE
    assert data == {"source": SOURCE, "hashes": HASHES}


def test_an_empty_folder_will_do(tmp_path):
    open_run(tmp_path, RECIPE, SOURCE, HASHES, resume=False)
    assert read_run(tmp_path)[0] == RECIPE


def test_a_folder_that_exists_asks_for_resume_or_another_name_and_is_left_alone(run):
    before = {name: (run / name).read_bytes() for name in files(run)}
    with pytest.raises(BadInput, match=r"run: exists already; --resume .*--run FOLDER"):
        open_run(run, RECIPE, SOURCE, HASHES, resume=False)
    assert {name: (run / name).read_bytes() for name in files(run)} == before


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for resume in (False, True):
        with pytest.raises(BadInput, match=r"exists already|not the folder of a run"):
            open_run(tmp_path / "file", RECIPE, SOURCE, HASHES, resume=resume)
    assert (tmp_path / "file").read_text() == "mine"


def test_resume_with_the_same_recipe_and_data_is_fine(run):
    open_run(run, RECIPE, SOURCE, HASHES, resume=True)
    assert files(run) == ["data.json", "recipe.toml"]


def test_checking_says_whether_a_run_is_there_and_makes_nothing(run, tmp_path):
    assert checkpoint.check_run(run, RECIPE, resume=True)
    assert not checkpoint.check_run(tmp_path / "none", RECIPE, resume=False)
    assert not (tmp_path / "none").exists()


def test_resume_of_nothing_says_so_and_makes_nothing(tmp_path):
    with pytest.raises(BadInput, match="--resume: there is no run at"):
        open_run(tmp_path / "none", RECIPE, SOURCE, HASHES, resume=True)
    assert not (tmp_path / "none").exists()


def test_resume_with_another_recipe_names_the_flags_that_differ(run):
    other = RECIPE.changed(hidden=5, learning_rate=0.5)
    with pytest.raises(BadInput) as caught:
        open_run(run, other, SOURCE, HASHES, resume=True)
    assert "--hidden was 4, is 5" in str(caught.value)
    assert f"--learning-rate was {RECIPE.learning_rate}, is 0.5" in str(caught.value)
    assert "--seed" not in str(caught.value)


@pytest.mark.parametrize("kind", ["reviews", "vectors"])
def test_resume_with_other_data_says_which(run, kind):
    with pytest.raises(BadInput, match=f"was started with other {kind}"):
        open_run(run, RECIPE, SOURCE, HASHES | {kind: "cc"}, resume=True)


def test_a_fine_tuning_goes_on_from_the_same_start_and_nothing_else_does(run, tmp_path):
    tuned, hashes = tmp_path / "tuned", {"reviews": "aa", STARTING_WEIGHTS: "cc"}
    open_run(tuned, RECIPE, SOURCE, hashes, resume=False)
    open_run(tuned, RECIPE, SOURCE, hashes, resume=True)
    assert check_run(tuned, RECIPE, resume=True, fine_tuning=True)
    with pytest.raises(BadInput, match="was started with other starting weights; give the same"):
        open_run(tuned, RECIPE, SOURCE, hashes | {STARTING_WEIGHTS: "dd"}, resume=True)
    with pytest.raises(BadInput, match=r"--resume: .*tuned was started with --from; give the same"):
        check_run(tuned, RECIPE, resume=True)
    with pytest.raises(BadInput, match=r"--resume: .*run was started without --from; leave it out"):
        check_run(run, RECIPE, resume=True, fine_tuning=True)


def test_a_folder_of_something_else_is_no_run(tmp_path):
    (tmp_path / "holiday.txt").write_text("sun")
    for attempt in (
        lambda: open_run(tmp_path, RECIPE, SOURCE, HASHES, resume=True),
        lambda: read_run(tmp_path),
        lambda: read_run(tmp_path / "nowhere"),
    ):
        with pytest.raises(BadInput, match="not the folder of a run; `reelsense train` makes one"):
            attempt()
    assert files(tmp_path) == ["holiday.txt"]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"hashes": 3}', '"x"'])
def test_data_json_that_is_none_is_refused(run, content):
    (run / "data.json").write_text(content)
    with pytest.raises(BadInput, match="not the folder of a run"):
        open_run(run, RECIPE, SOURCE, HASHES, resume=True)


def test_a_recipe_of_another_version_names_file_and_key(run):
    (run / "recipe.toml").write_text("hiden = 4\n")
    with pytest.raises(BadInput, match=r"recipe\.toml: unknown key 'hiden'"):
        read_run(run)


# --- Weights --------------------------------------------------------------------------------------


def test_the_chosen_epoch_becomes_the_weights(finished):
    assert equal(load_weights(finished), tensors())
    header = load_tensors(finished / "weights.safetensors")[1]
    assert header == {"epoch": "2", "sha256": weights_hash(tensors())}


def test_weights_that_were_changed_are_refused(finished):
    path = finished / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match="weights are not those that were saved"):
        load_weights(finished)


def test_weights_that_are_cut_short_or_have_no_hash_are_refused(finished):
    path = finished / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BadInput, match="damaged"):
        load_weights(finished)
    save_tensors(path, tensors(), {})
    with pytest.raises(BadInput, match="not those that were saved"):
        load_weights(finished)


def test_a_run_without_weights_says_how_to_finish_it(run, tmp_path):
    with pytest.raises(BadInput, match=r"has no weights yet; finish it with .*--resume"):
        load_weights(run)
    with pytest.raises(BadInput, match="there is no such file"):
        load_weights(tmp_path / "nowhere")


def test_clearing_leaves_what_a_finished_run_needs(finished):
    save_state(finished, tensors(), Position())
    clear_checkpoints(finished)
    assert files(finished) == ["data.json", "recipe.toml", "weights.safetensors"]
    assert not (finished / "checkpoint").exists()
    clear_checkpoints(finished)  # nothing there is fine


# --- A full disk ----------------------------------------------------------------------------------


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(params=["write", "fsync"])
def full_disk(request, monkeypatch):
    if request.param == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        write = Path.write_bytes

        def half(path, data):
            write(path, data[: len(data) // 2])
            full()

        monkeypatch.setattr(Path, "write_bytes", half)
    return monkeypatch


def test_a_full_disk_leaves_the_last_state_as_it_was(run, full_disk):
    full_disk.undo()
    save_state(run, tensors(0), Position(step=1))
    full_disk.setattr(os, "fsync", full)
    before = state_path(run).read_bytes()
    with pytest.raises(Failure, match=r"state\.safetensors: the disk is full; free some space"):
        save_state(run, tensors(1), Position(step=2))
    assert state_path(run).read_bytes() == before
    assert files(run) == ["checkpoint/state.safetensors", "data.json", "recipe.toml"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path, full_disk):
    attempts = {
        "weights.safetensors": lambda path: save_tensors(path, tensors(), {}),
        "history.jsonl": lambda path: write_history(path.parent, [{"epoch": 1}]),
        "recipe.toml": lambda path: open_run(path.parent, RECIPE, SOURCE, HASHES, resume=False),
    }
    for name, attempt in attempts.items():
        with pytest.raises(Failure, match=f"{name}: the disk is full"):
            attempt(tmp_path / name)
        assert files(tmp_path) == []
