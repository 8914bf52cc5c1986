"""What `pretrain` prints, leaves behind and survives."""

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from reelsense.model.pretraining import Pretraining
from reelsense.model.settings import flag
from reelsense.training import pretrain as module
from reelsense.training import windows
from reelsense.training.checkpoint import (
    clear_checkpoints,
    load_state,
    load_tensors,
    save_tensors,
    weights_hash,
)

# A run of a second; of a flag twice, the last counts.
TINY = [
    "pretrain", "--embedding", "vectors.txt", "--dimensions", "6", "--hidden", "4", "--epochs", "2",
    "--rows", "12", "--window", "20", "--negatives", "10", "--measure", "2", "--precision", "fp32",
    "--threads", "1", "--run", "run", "--data", "reviews.csv", "--unlabelled", "more.csv",
]  # fmt: skip
LEAVES = {
    "recipe.toml", "data.json", "environment.json", "tokenizer.json", "history.jsonl",
    "perplexity.png", "weights.safetensors", "read.npy",
}  # fmt: skip


@pytest.fixture(autouse=True)
def more(here, made_up):
    """Reviews without labels beside the others."""
    (here / "more.csv").write_text(
        "text\n" + "".join(f"{text} more\n" for text, _ in made_up(100, seed=1))
    )


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Half the time of a run goes by drawing; the run in a process of its own draws."""
    monkeypatch.setattr(module, "draw_perplexity", lambda history, path: path.touch())


def digest(run):
    """The hash of a run's weights, which is the one in their file."""
    weights, header = load_tensors(run / "weights.safetensors")
    assert header["sha256"] == weights_hash(weights)
    return header["sha256"]


@pytest.fixture
def stop_at(monkeypatch):
    """Let Ctrl-C come in a step of the training."""

    real = module._progress

    def stop(step):
        def pressed(recipe, corpus, position, steps):
            if position.steps_done == step:
                signal.raise_signal(signal.SIGINT)
            return real(recipe, corpus, position, steps)

        monkeypatch.setattr(module, "_progress", pressed)

    return stop


# --- A run ----------------------------------------------------------------------------------------


def test_a_run_from_reviews_to_weights(here):
    """As a program of its own, whose output no terminal shows."""
    done = subprocess.run(
        [sys.executable, "-m", "reelsense", *TINY], cwd=here, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    run = here / "run"
    assert {path.name for path in run.iterdir()} == LEAVES

    assert (run / "perplexity.png").read_bytes().startswith(b"\x89PNG")
    words = json.loads((run / "tokenizer.json").read_text())["vocabulary"]
    assert {"great", "film", "more"} <= set(words)
    assert not [word for word in words if re.fullmatch(r"n\d+", word)]  # of one review each
    weights, _ = load_tensors(run / "weights.safetensors")
    assert weights["embedding.weight"].shape == (len(words), 6)
    assert weights["backward_lstm.0.weight_hh_l0"].shape == (16, 4)
    assert weights["forward_head.bias"].shape == (len(words),)

    history = [json.loads(line) for line in (run / "history.jsonl").open()]
    assert [row["epochs"] for row in history] == [
        pytest.approx(share, abs=0.05) for share in (0.5, 1, 1.5, 2)
    ]
    assert all(1 < row["perplexity"]["backward"] < 2 * len(words) for row in history)
    table = "".join(
        rf" +{row['epochs']:.2f} +{row['perplexity']['forward']:.2f}"
        rf" +{row['perplexity']['backward']:.2f}\n"
        for row in history
    )
    lines = done.stdout.splitlines(keepends=True)
    said = "".join(line for line in lines if "reviews/s" not in line)  # of a slow machine
    assert re.search(
        r"perplexity of held-out reviews\n +epochs +forwards +backwards\n" + table, said
    )
    assert re.search(
        r"^Reviews   260 to learn from, [\d,]+ tokens; 20 for the perplexity$", said, re.MULTILINE
    )
    assert f"Words     {len(words) - 2}; " in said
    assert f"sha256 {digest(run)}\n" in said
    assert "run/perplexity.png\n" in said
    assert "reelsense train --from run" in said

    saved = json.loads((run / "data.json").read_text())
    assert saved["source"]["source"] == str(here / "reviews.csv")
    assert saved["source"]["unlabelled"] == [str(here / "more.csv")]
    environment = json.loads((run / "environment.json").read_text())
    for name, value in saved["hashes"].items():
        assert environment[f"sha256 of {name}"] == value
    assert Pretraining.from_toml((run / "recipe.toml").read_text(), "x").hidden == 4


def test_the_same_command_gives_the_same_weights_and_another_seed_others(reelsense, here):
    for name, seed in (("run", "0"), ("again", "0"), ("other", "1")):
        assert reelsense(*TINY, "--epochs", "1", "--run", name, "--seed", seed).code == 0
    assert digest(here / "run") == digest(here / "again") != digest(here / "other")


def test_labels_of_unlabelled_reviews_are_not_read(reelsense, here):
    assert reelsense(*TINY, "--epochs", "1", "--run", "a").code == 0
    rows = (here / "more.csv").read_text().splitlines()[1:]
    labelled = "text,label\n" + "".join(f"{row},{n % 3} stars\n" for n, row in enumerate(rows))
    (here / "more.csv").write_text(labelled)
    assert reelsense(*TINY, "--epochs", "1", "--run", "b").code == 0
    assert digest(here / "a") == digest(here / "b")


def test_of_a_folder_of_acl_imdb_the_unlabelled_part_is_read(reelsense, here):
    for group, word in (("unsup", "unsupervised"), ("pos", "positives"), ("neg", "negatives")):
        folder = here / "aclImdb/train" / group
        folder.mkdir(parents=True)
        for number in range(30):
            (folder / f"{number}_0.txt").write_text(f"a great {word} film {number}")
    outcome = reelsense(*TINY, "--unlabelled", "aclImdb")
    assert (outcome.code, outcome.err) == (0, "")
    assert "290 to learn from" in outcome.out
    words = json.loads((here / "run/tokenizer.json").read_text())["vocabulary"]
    assert {"unsupervised", "more"} <= set(words)
    assert not {"positives", "negatives"} & set(words)


def test_no_unlabelled_reviews_are_needed(reelsense):
    outcome = reelsense(*TINY[:-2])
    assert (outcome.code, outcome.err) == (0, "")
    assert "160 to learn from" in outcome.out


def test_without_held_out_reviews_nothing_is_measured(reelsense, here):
    outcome = reelsense(*TINY, "--validation", "0", "--test", "0")
    assert (outcome.code, outcome.err) == (0, "")
    assert "300 to learn from" in outcome.out
    assert "0 for the perplexity" in outcome.out
    assert re.search(
        r"^ +epochs +loss \(no review was held out\)\n( +\d\.\d\d +\d\.\d{3}\n){4}",
        outcome.out,
        re.MULTILINE,
    )
    assert "perplexity.png" not in outcome.out
    assert {path.name for path in (here / "run").iterdir()} == LEAVES - {"perplexity.png"}


def test_a_recipe_of_a_file_and_flags_that_change_it(reelsense, here):
    (here / "mine.toml").write_text('name = "mine"\nepochs = 1\nmeasure = 1\nseed = 3\n')
    left_out = ("--epochs", "--measure", "--run")
    pairs = [TINY[place : place + 2] for place in range(1, len(TINY), 2)]
    flags = [part for pair in pairs if pair[0] not in left_out for part in pair]
    assert reelsense("pretrain", *flags, "--recipe", "mine.toml", "--seed", "4").code == 0
    saved = Pretraining.from_toml((here / "runs/mine/recipe.toml").read_text(), "x")
    assert (saved.epochs, saved.seed, saved.hidden) == (1, 4, 4)
    assert len((here / "runs/mine/history.jsonl").read_text().splitlines()) == 1


# --- Interrupted, resumed -------------------------------------------------------------------------


def test_ctrl_c_saves_and_resume_ends_with_the_same_weights(reelsense, here, refused, stop_at):
    for step in (1, 18, 25):  # 18 is the last of an epoch
        stop_at(step)
        outcome = reelsense(*TINY, *(["--resume"] if step > 1 else []))
        refused(outcome, 130, "interrupted and saved; go on with: reelsense pretrain .* --resume")
        assert load_state(here / "run")[1].steps_done == step
        assert not (here / "run/weights.safetensors").exists()
    stop_at(None)
    assert reelsense(*TINY, "--resume").code == 0
    assert reelsense(*TINY, "--run", "whole").code == 0
    assert digest(here / "run") == digest(here / "whole")
    assert {path.name for path in (here / "run").iterdir()} == LEAVES


def test_ctrl_c_while_the_weights_are_written(reelsense, here, monkeypatch, refused):
    real = module.save_tensors

    def pressed(path, tensors, header):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_tensors", pressed)
    refused(reelsense(*TINY), 130, "interrupted; go on with: .* --resume")
    monkeypatch.setattr(module, "save_tensors", real)
    outcome = reelsense(*TINY, "--resume")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"sha256 {digest(here / 'run')}" in outcome.out


def test_what_is_left_when_it_dies_at_the_very_end_is_cleared_by_resume(
    reelsense, here, monkeypatch
):
    monkeypatch.setattr(module, "clear_checkpoints", lambda run: None)
    assert reelsense(*TINY).code == 0
    before = digest(here / "run")
    assert (here / "run/checkpoint").exists()
    monkeypatch.setattr(module, "clear_checkpoints", clear_checkpoints)
    assert reelsense(*TINY, "--resume").code == 0
    assert digest(here / "run") == before
    assert {path.name for path in (here / "run").iterdir()} == LEAVES


def test_a_finished_run(reelsense, here, refused):
    assert reelsense(*TINY).code == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in (here / "run").iterdir())
    outcome = reelsense(*TINY, "--resume")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "run has finished already: run/weights.safetensors\n"
    refused(reelsense(*TINY), 2, "run: exists already; --resume goes on with it")
    assert sorted((path, path.stat().st_mtime_ns) for path in (here / "run").iterdir()) == before


def test_resume_with_something_else(reelsense, here, refused, stop_at, write_csv, write_vectors):
    stop_at(2)
    assert reelsense(*TINY).code == 130
    resume = [*TINY, "--resume"]
    refused(reelsense(*resume, "--hidden", "5"), 2, "another recipe: --hidden was 4, is 5")
    write_csv(here / "reviews.csv", seed=3)
    refused(reelsense(*resume), 2, "run was started with other reviews; give the same")
    write_csv(here / "reviews.csv")
    refused(reelsense(*resume, "--unlabelled", "reviews.csv"), 2, "other unlabelled reviews")
    refused(reelsense(*[*TINY[:-2], "--resume"]), 2, "other unlabelled reviews")
    write_vectors(here / "vectors.txt", dimension=4)
    refused(reelsense(*resume), 2, "run was started with other vectors")
    write_vectors(here / "vectors.txt")
    assert reelsense(*resume).code == 0


# --- Going on from another run --------------------------------------------------------------------

FROM = [part for pair in zip(TINY[1::2], TINY[2::2], strict=True) for part in pair
        if pair[0] not in ("--embedding", "--dimensions", "--hidden", "--run")]  # fmt: skip
FROM = ["pretrain", *FROM, "--from", "run", "--run", "more"]


def perplexities(run):
    rows = [json.loads(line) for line in (run / "history.jsonl").open()]
    return [row["perplexity"]["forward"] for row in rows]


def test_a_run_goes_on_from_another_with_its_words(reelsense, here, made_up):
    assert reelsense(*TINY).code == 0
    (here / "more.csv").write_text(
        "text\n" + "".join(f"{text} unheard of\n" for text, _ in made_up(100, seed=5))
    )
    outcome = reelsense(*FROM)
    assert (outcome.code, outcome.err) == (0, "")
    for name in ("recipe.toml", "tokenizer.json", "perplexity.png"):
        assert (here / "more" / name).exists()
    assert (here / "more/tokenizer.json").read_text() == (here / "run/tokenizer.json").read_text()
    saved = Pretraining.from_toml((here / "more/recipe.toml").read_text(), "x")
    assert (saved.hidden, saved.dimensions, saved.embedding) == (4, 6, "vectors.txt")
    before, after = (set(np.load(here / run / "read.npy").tolist()) for run in ("run", "more"))
    assert before < after
    assert perplexities(here / "more")[-1] < perplexities(here / "run")[-1]
    again = ["train", "--recipe", "teacher", "--from", "more", "--data", "reviews.csv", "--help"]
    assert reelsense(*again).code == 0


def test_nearly_no_step_leaves_the_weights_as_they_were(reelsense, here):
    assert reelsense(*TINY).code == 0
    assert reelsense(*FROM, "--learning-rate", "1e-8", "--epochs", "1").code == 0
    before, after = (load_tensors(here / run / "weights.safetensors")[0] for run in ("run", "more"))
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-5)


def test_a_run_of_an_earlier_version_has_no_heads(reelsense, here):
    assert reelsense(*TINY).code == 0
    file = here / "run/weights.safetensors"
    weights = {name: w for name, w in load_tensors(file)[0].items() if "head" not in name}
    save_tensors(file, weights, {"sha256": weights_hash(weights)})
    (here / "run/read.npy").unlink()
    assert reelsense(*FROM).code == 0
    assert "forward_head.bias" in load_tensors(here / "more/weights.safetensors")[0]


def test_an_interrupted_one_goes_on_from_the_same_start_only(reelsense, here, refused, stop_at):
    for name, seed in (("run", "0"), ("other", "1")):
        assert reelsense(*TINY, "--epochs", "1", "--run", name, "--seed", seed).code == 0
    stop_at(3)
    assert reelsense(*FROM).code == 130
    stop_at(None)
    refused(reelsense(*FROM, "--resume", "--from", "other"), 2, "started with other starting weig")
    without = [part for part in FROM if part not in ("--from", "run")]
    shape = ("--embedding", "vectors.txt", "--dimensions", "6", "--hidden", "4")
    refused(reelsense(*without, *shape, "--resume"), 2, "more was started with --from; give the")
    assert reelsense(*FROM, "--resume").code == 0
    assert reelsense(*FROM, "--run", "whole").code == 0
    assert digest(here / "more") == digest(here / "whole")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "5"], "--hidden cannot be changed with --from: run was made with 4; leave"),
        (["--dimensions", "7"], "--dimensions cannot be changed with --from: run was made with 6"),
        (["--min-films", "2"], "--min-films cannot be changed with --from"),
        (["--from", "nowhere"], "nowhere"),
        (["--from", "damaged"], "the weights to start from do not fit"),
    ],
)
def test_a_start_that_does_not_fit(reelsense, here, refused, arguments, message):
    assert reelsense(*TINY, "--epochs", "1").code == 0
    shutil.copytree(here / "run", here / "damaged")
    file = here / "damaged/weights.safetensors"
    weights = {**load_tensors(file)[0], "forward_lstm.0.weight_hh_l0": torch.zeros(3, 3)}
    save_tensors(file, weights, {"sha256": weights_hash(weights)})
    refused(reelsense(*FROM, *arguments), 2, message)
    assert not (here / "more").exists()


# --- Refused --------------------------------------------------------------------------------------

REFUSED = [
    (["--unlabelled", "missing.csv"], r"--unlabelled missing\.csv: there is no such file"),
    (["--unlabelled", ""], "--unlabelled : there is no such file"),
    (["--unlabelled", "."], "a folder, but not aclImdb"),
    (["--unlabelled", "vectors.txt"], r"vectors\.txt: unknown kind of file"),
    (["--data", "missing.csv"], r"missing\.csv: there is no such file"),
    (["--recipe", "missing.toml"], r"--recipe missing\.toml: no such file, or not a TOML file"),
    (["--recipe", "accurate"], "--recipe accurate: no such file"),
    (["--recipe", "latin.toml"], r"--recipe latin\.toml: no such file, or not a TOML file"),
    (["--recipe", "key.toml"], r"key\.toml: unknown key 'hiden'; `reelsense pretrain --help`"),
    (["--recipe", "value.toml"], r"value\.toml: --hidden must be a whole number"),
    (["--resume"], "--resume: there is no run at run; leave --resume out"),
    (["--run", "vectors.txt"], r"vectors\.txt is a file, not a folder"),
    (["--hidden", "0"], "--hidden must be at least 1, not 0"),
    (["--dimensions", "4"], r"--dimensions 4: vectors\.txt has 5; give at least as many"),
    (["--rows", "1000"], "tokens are too few for 1000 rows of 20; lower --rows or --window"),
    (["--window", "100000"], "tokens are too few for 12 rows of 100000; lower --rows or --window"),
    (["--min-count", "9999"], r"no word is left to learn; lower --min-count 9999 and --min-films"),
    (["--max-words", "-1"], "--max-words must be at least 0"),
    (["--validation", "0.6", "--test", "0.5"], "leave nothing to train on"),
    (["--embedding", "missing.vec"], r"missing\.vec: no such file of word vectors"),
    (["--crop-tokens", "5"], "No such option '--crop-tokens'"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED]
)
def test_bad_input_is_one_line_and_leaves_nothing(reelsense, refused, here, arguments, message):
    (here / "key.toml").write_text("hiden = 3\n")
    (here / "value.toml").write_text('hidden = "many"\n')
    (here / "latin.toml").write_bytes(b'name = "caf\xe9"\n')
    before = sorted(here.rglob("*"))
    refused(reelsense(*TINY, *arguments), 2, message)
    assert sorted(here.rglob("*")) == before


def test_no_gpu(reelsense, here, monkeypatch, refused):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(reelsense(*TINY, "--device", "cuda"), 2, "use --device cpu")
    assert not (here / "run").exists()


def test_the_run_of_a_training_is_not_gone_on_with(reelsense, here, refused):
    from reelsense.model.recipe import Recipe

    (here / "run").mkdir()
    (here / "run/recipe.toml").write_text(Recipe().to_toml())
    (here / "run/data.json").write_text('{"source": {}, "hashes": {}}')
    refused(reelsense(*TINY, "--resume"), 2, r"run/recipe\.toml: unknown key '\w+'")


def test_a_loss_that_is_not_a_number(reelsense, here, monkeypatch, refused):
    real = windows.sampled_loss
    monkeypatch.setattr(windows, "sampled_loss", lambda *given: real(*given) * float("nan"))
    refused(reelsense(*TINY), 1, "not a number in epoch 1, step 1; .*lower --learning-rate")
    monkeypatch.setattr(windows, "sampled_loss", real)
    assert reelsense(*TINY, "--resume").code == 0


# --- Help -----------------------------------------------------------------------------------------


def test_help_names_every_value_of_the_recipe_by_itself(reelsense):
    options, _, values = reelsense("pretrain", "--help").out.partition("Values of the recipe:")
    for field in dataclasses.fields(Pretraining):
        named = field.name not in ("name", "about")
        assert (f"  {flag(field.name)} " in values) == named
        assert f"  {flag(field.name)} " not in options
    for option in ("--unlabelled", "--recipe", "--run", "--resume", "--data", "--device"):
        assert f"  {option} " in options
        assert f"  {option} " not in values


def test_rows_without_a_text_are_counted(reelsense, here):
    with (here / "more.csv").open("a") as file:
        file.write('" "\n')
    outcome = reelsense(*TINY)
    assert outcome.code == 0
    assert re.fullmatch(r".*more\.csv: left out 1 row without text\n", outcome.err)
