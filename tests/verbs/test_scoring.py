"""`reelsense score` as a user meets it: what it prints, what it refuses, and kill -9."""

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ADDED = ["label", "probability", "tokens", "unknown", "truncated"]


@pytest.fixture
def tiny_model(tiny_bundle):
    return ["--model", str(tiny_bundle)]


@pytest.fixture
def reviews(here, made_up):
    """Write reviews.csv without labels."""
    rows = [["id", "review"], *[[n, text] for n, (text, _) in enumerate(made_up(40))]]
    with (here / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return here / "in.csv"


def program(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "reelsense", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_a_file_is_scored_and_summed_up(reelsense, reviews, here, tiny_model):
    done = reelsense("score", "in.csv", "out.jsonl", *tiny_model)
    assert (done.code, done.out) == (0, "")
    rows = [json.loads(line) for line in (here / "out.jsonl").read_text().splitlines()]
    assert list(rows[0]) == ["id", "review", *ADDED]
    assert re.search(r"^Rows +40\n", done.err)
    counts = dict(re.findall(r"^(Positive|Negative|Uncertain) +(\d+) \(", done.err, re.M))
    assert sum(map(int, counts.values())) == 40
    bins = re.findall(r"^0\.\d to [01]\.\d +(\d+)", done.err, re.M)
    assert len(bins) == 10
    assert sum(map(int, bins)) == 40
    again = reelsense("score", "in.csv", "out.jsonl", *tiny_model, "--resume")
    assert (again.code, again.err) == (0, f"out.jsonl has been scored already\n{done.err}")


def test_it_says_which_names_it_could_not_have(reelsense, here, tiny_model):
    (here / "in.csv").write_text("text,label\nfine,1\n")
    done = reelsense("score", "in.csv", "out.csv", *tiny_model)
    assert "Columns    predicted_label, predicted_probability," in done.err


def test_bad_rows_are_counted_and_listed(reelsense, here, tiny_model, refused):
    (here / "in.csv").write_bytes(b'text\nfine\n\xe9\nfine\n""\n')
    stopped = reelsense("score", "in.csv", "out.csv", *tiny_model)
    refused(stopped, 2, r"in.csv: row 2 \(line 3\): the byte 0xe9 is not UTF-8; mend it, or give")
    assert not list(here.glob("out*"))
    done = reelsense("score", "in.csv", "out.csv", *tiny_model, "--on-error", "skip")
    assert "No answer  2 (empty 1, encoding 1); listed in out.csv.errors.jsonl" in done.err
    # Once mended, no list of an earlier run stays.
    (here / "in.csv").write_text("text\nfine\n")
    assert reelsense("score", "in.csv", "out.csv", *tiny_model, "--overwrite").code == 0
    assert not (here / "out.csv.errors.jsonl").exists()


def test_pipes(reviews, here, tiny_model):
    data = reviews.read_bytes()
    piped = program("score", "-", "-", "--format", "csv", *tiny_model, cwd=here, stdin=-1)
    out, err = piped.communicate(data)
    assert piped.returncode == 0, err
    assert b"Rows       40" in err
    to_file = program("score", "-", "out.csv", "--format", "csv", *tiny_model, cwd=here, stdin=-1)
    to_file.communicate(data)
    assert (here / "out.csv").read_bytes() == out
    assert not (here / "out.csv.partial").exists()
    from_file = program("score", "in.csv", "-", *tiny_model, cwd=here)
    assert from_file.communicate()[0] == out
    packed = program("score", "-", "-", "--format", "csv", *tiny_model, cwd=here, stdin=-1)
    assert packed.communicate(gzip.compress(data))[0] == out
    lines = program("score", "-", "-", "--format", "text", *tiny_model, cwd=here, stdin=-1)
    out, _ = lines.communicate(b"fine\n\ndull\n"[:5])
    assert out.startswith(b"text,label,probability,tokens,unknown,truncated\nfine,")


def test_bad_rows_of_a_pipe_are_printed(here, tiny_model):
    given = ["score", "-", "-", "--format", "text", "--on-error", "keep", *tiny_model]
    piped = program(*given, cwd=here, stdin=-1)
    out, err = piped.communicate(b"fine\n\nfine\n")
    assert out.splitlines()[2] == b",,,,,"
    assert json.loads(err.splitlines()[0]) == {
        "row": 2, "line": 2, "kind": "empty", "problem": "the text is empty",
    }  # fmt: skip
    stopped = program(*given[:5], *tiny_model, cwd=here, stdin=-1)
    _, err = stopped.communicate(b"fine\n\nfine\n")
    assert stopped.returncode == 2
    assert err.startswith(b"reelsense: standard input: row 2 (line 2): the text is empty")


def test_a_closed_output_is_said(here, reviews, tiny_model):
    command = f"{sys.executable} -m reelsense score in.csv - --model {tiny_model[1]} >&-"
    done = subprocess.run(command, shell=True, cwd=here, stderr=subprocess.PIPE)
    assert done.stderr == b"reelsense: standard output is closed; name a file\n"


REFUSED = [
    (["missing.csv", "out.csv"], "missing.csv: there is no such file or folder"),
    (["empty", "out.csv"], "empty: a folder without files"),
    (["in.doc", "out.csv"], "in.doc: its name does not say what kind of file it is; names end in"),
    (["in.csv", "out"], "out: its name does not say"),
    (["in.csv", "out.txt"], "out.txt: plain text has no columns"),
    (["in.csv", "out.parquet.gz"], "Parquet compresses by itself"),
    (["in.csv", "empty"], "empty: is a folder; name a file in it"),
    (["in.csv", "in.csv"], "in.csv: is the input"),
    (["in.csv", "there.csv"], "there.csv: exists; --overwrite replaces it"),
    (["in.csv", "there.csv", "--resume"], "there.csv: exists and nothing says how it was made"),
    (["in.csv", "mine.csv", "--overwrite"], "mine.csv.partial: not unfinished work"),
    (["in.csv", "in.csv/out.csv"], "in.csv is a file, not a folder"),
    (["in.csv", "out.csv", "--text-column", "nope"], r"no column 'nope' \(--text-column\); .*'id'"),
    (["columns.csv", "out.csv"], "no column looks like the text .*; the columns are 'a', 'b'"),
    (["in.csv", "out.csv", "--resume", "--overwrite"], "give one of the two"),
    (["in.csv", "out.csv", "--on-error", "cry"], "'cry' is not one of"),
    (["in.csv", "out.csv", "--workers", "0"], "--workers"),
    (["in.csv", "out.csv", "--threshold", "nan"], "--threshold nan"),
    (["in.csv", "out.csv", "--model", "gone"], "gone: there is no such bundle"),
    (["-", "out.csv"], "say what standard input holds: --format"),
    (["-", "out.csv", "--format", "jsonl"], "its columns must be known before the first row"),
    (["in.csv", "-", "--resume"], "--resume: a pipe cannot be"),
    (["in.parquet", "-"], "in.parquet: broken or not Parquet|Parquet cannot go through a pipe"),
    (["cut.csv.gz", "out.csv"], "cut.csv.gz: cut short or damaged behind line"),
    (["cut.parquet", "out.csv"], "cut.parquet: broken or not Parquet"),
    (["no.csv.gz", "out.csv"], "no.csv.gz: not gz, whatever its name says"),
    (["quote.csv", "out.csv"], r"quote.csv: row 2 \(line 3\): it cannot be read: a quote is open"),
    (["empty.csv", "out.csv"], "empty.csv: the file is empty"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), REFUSED, ids=[" ".join(row[0])[-40:] for row in REFUSED]
)
def test_bad_input_is_one_line_and_leaves_nothing(
    reelsense, refused, reviews, here, arguments, message
):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (here / "empty").mkdir()
    (here / "mine.csv.partial").mkdir()
    (here / "mine.csv.partial/thesis").touch()
    pq.write_table(pa.table({"text": ["fine"] * 1000}), here / "in.parquet")
    files = {
        "in.doc": b"",
        "there.csv": b"text\nfine\n",
        "columns.csv": b"a,b\n1,2\n",
        "cut.csv.gz": gzip.compress(b"text\n" + os.urandom(9000).hex().encode() + b"\n")[:-2000],
        "cut.parquet": (here / "in.parquet").read_bytes()[:-20],
        "no.csv.gz": b"text\nfine\n",
        "quote.csv": b'text\nfine\n"never closed\nfine\n',
        "empty.csv": b"",
    }
    for name, data in files.items():
        (here / name).write_bytes(data)
    before = sorted(here.rglob("*"))
    refused(reelsense("score", *arguments), 2, message)
    assert sorted(here.rglob("*")) == before


def test_a_package_that_is_missing_is_named(reelsense, refused, reviews, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = reelsense("score", "in.csv", "out.parquet")
    refused(done, 1, r'Parquet and .zst need pyarrow; run: pip install "reelsense\[files\]"')
    refused(reelsense("score", "s3://a/b.csv", "out.csv"), 1, "addresses need pyarrow")


def wait_for(path, process, seconds=60):
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def many(here, made_up):
    """Enough rows for a few parts, scored as they are read."""
    texts = [text for text, _ in made_up(40)]
    with (here / "many.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review"])
        writer.writerows([n, " ".join(texts[n % 40 :])] for n in range(30_000))
    return here / "many.csv"


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_what_was_killed_goes_on_to_the_same_bytes(
    end, reelsense, refused, many, here, tiny_model, children_of, is_running
):
    arguments = ["score", "many.csv", "out.csv.gz", "--workers", "2", *tiny_model]
    process = program(*arguments, cwd=here)
    wait_for(here / "out.csv.gz.partial/000000.json", process)
    workers = children_of(process.pid)
    process.send_signal(end)
    _, err = process.communicate(timeout=60)
    if end == signal.SIGKILL:
        assert process.returncode == -9
    else:
        assert process.returncode == 128 + end
        assert re.fullmatch(rb"reelsense: interrupted and saved; go on with: .* --resume\n", err), (
            err
        )
    assert not (here / "out.csv.gz").exists()
    until = time.monotonic() + 20
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < until, "a worker outlives the program"
        time.sleep(0.05)
    refused(reelsense(*arguments), 2, "was begun and interrupted; --resume goes on")
    assert reelsense(*arguments, "--resume").code == 0
    assert reelsense("score", "many.csv", "whole.csv.gz", "--workers", "1", *tiny_model).code == 0
    assert (here / "out.csv.gz").read_bytes() == (here / "whole.csv.gz").read_bytes()
    assert not (here / "out.csv.gz.partial").exists()


@pytest.mark.slow
def test_a_killed_worker_is_one_line_and_loses_nothing(
    reelsense, many, here, tiny_model, children_of
):
    arguments = ["score", "many.csv", "out.csv", "--workers", "2", *tiny_model]
    process = program(*arguments, cwd=here)
    wait_for(here / "out.csv.partial/000000.json", process)
    for pid in children_of(process.pid):
        if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(rb"reelsense: a worker process was killed, .*--resume.*\n", err), err
    assert reelsense(*arguments, "--resume").code == 0
    assert len((here / "out.csv").read_text().splitlines()) == 30_001


@pytest.mark.slow
def test_an_output_that_nobody_reads_ends_the_program(many, here, tiny_model):
    command = f"{sys.executable} -m reelsense score many.csv - --model {tiny_model[1]} | head -1"
    done = subprocess.run(command, shell=True, cwd=here, capture_output=True, timeout=60)
    assert done.stdout.startswith(b"id,review,label")
    assert done.stderr == b""
