"""A file of reviews to a file of answers, whatever its form and whenever it is broken off."""

import csv
import errno
import gzip
import io
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reelsense.errors import BadInput, Failure
from reelsense.inference import files, outputs, work
from reelsense.inference.files import score_file, score_to_pipe, task_for
from reelsense.inference.predictor import load
from reelsense.inference.workers import answering

SUFFIXES = [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.zst"]
ADDED = list(outputs.ADDED)


@pytest.fixture
def texts(made_up_texts):
    texts = made_up_texts(20)
    texts[3] = 'with "quotes", commas;\nand a line end\ttab'
    texts[5] = "naïve — 映画 😀"
    return texts


def write(path, texts):
    """Write reviews with a number and a name beside each."""
    name = path.name
    if name.endswith(".parquet"):
        ids = pa.array(range(len(texts)), pa.int16())
        tags = pa.array([["a", "b"]] * len(texts), pa.list_(pa.string()))
        table = pa.table({"id": ids, "review": pa.array(texts, pa.string()), "tags": tags})
        pq.write_table(table, path, row_group_size=7)
        return path
    if ".jsonl" in name:
        rows = [json.dumps({"id": n, "review": text, "x": 1.5}) for n, text in enumerate(texts)]
        data = "".join(f"{row}\n" for row in rows)
    elif ".txt" in name:
        data = "".join(text.replace("\n", " ") + "\n" for text in texts)
    else:
        lines = io.StringIO(newline="")
        delimiter = "\t" if ".tsv" in name else ","
        writer = csv.writer(lines, delimiter=delimiter, lineterminator="\r\n")
        writer.writerows([["id", "review"], *[[f"00{n}", text] for n, text in enumerate(texts)]])
        data = lines.getvalue()
    pack = {".gz": gzip.compress, ".zst": lambda d: pa.Codec("zstd").compress(d, asbytes=True)}
    path.write_bytes(pack.get(path.suffix, bytes)(data.encode()))
    return path


def unpacked(path):
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data).decode()
    if path.suffix == ".zst":
        return pa.CompressedInputStream(pa.BufferReader(data), "zstd").read().decode()
    return data.decode()


def read(path):
    """Read the rows of an output, numbers as numbers."""
    name = path.name
    if name.endswith(".parquet"):
        return pq.read_table(path).to_pylist()
    if ".jsonl" in name:
        return [json.loads(line) for line in unpacked(path).splitlines()]
    delimiter = "\t" if ".tsv" in name else ","
    lines = io.StringIO(unpacked(path), newline="")
    rows = list(csv.DictReader(lines, delimiter=delimiter, strict=True))
    numbers = {"probability": float, "tokens": int, "unknown": float, "truncated": "true".__eq__}
    return [{key: numbers.get(key, str)(value) if value else None for key, value in row.items()}
            for row in rows]  # fmt: skip


def errors_of(target):
    lines = target.with_name(f"{target.name}.errors.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("after", SUFFIXES)
@pytest.mark.parametrize("before", [*SUFFIXES, ".txt"])
def test_each_row_has_the_answer_that_it_would_get_alone(
    before, after, texts, tmp_path, score, tiny_bundle, small_parts
):
    source, target = write(tmp_path / f"in{before}", texts), tmp_path / f"out{after}"
    whole = score(source, target)
    model = load(tiny_bundle)
    rows = read(target)
    given = [text.replace("\n", " ") for text in texts] if before == ".txt" else texts
    column = "text" if before == ".txt" else "review"
    assert [row[column] for row in rows] == given
    for row, text in zip(rows, given, strict=True):
        said = model(text)
        assert [row[name] for name in ADDED] == [getattr(said, name) for name in ADDED]
    assert (whole.rows, whole.scored, sum(whole.histogram)) == (20, 20, 20)
    summary = json.loads((tmp_path / f"out{after}.summary.json").read_text())
    assert summary["tally"]["labels"] == whole.labels
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        source.name, target.name, f"{target.name}.summary.json",
    ]  # fmt: skip


@pytest.mark.parametrize("after", [".csv", ".jsonl", ".parquet", ".csv.gz"])
@pytest.mark.parametrize("before", [".csv", ".parquet"])
def test_no_rows_are_rows_too(before, after, tmp_path, score):
    source, target = write(tmp_path / f"in{before}", []), tmp_path / f"out{after}"
    assert score(source, target).rows == 0
    assert read(target) == []
    if after == ".csv":
        assert target.read_text().count("\n") == 1
    if after == ".parquet":
        assert set(pq.read_schema(target).names) >= {"id", "review", *ADDED}


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl"])
def test_a_row_keeps_its_own_characters(kind, texts, tmp_path, score):
    source, target = write(tmp_path / f"in{kind}", texts), tmp_path / f"out{kind}"
    data = source.read_bytes()
    if kind == ".jsonl":  # other digits and spaces than Python would write
        data = data.replace(b'"x": 1.5', b'"x" : 1.500,"big": 123456789012345678901234567890')
    source.write_bytes(b"\xef\xbb\xbf" + data)
    score(source, target)
    written = target.read_bytes()
    assert written.startswith(b"\xef\xbb\xbf") == (kind != ".jsonl")
    written = written.removeprefix(b"\xef\xbb\xbf")
    for before, after in zip(data.splitlines(True), written.splitlines(True), strict=True):
        assert after.startswith(before.rstrip(b"\r\n}"))
        assert after.endswith(b"\r\n") == before.endswith(b"\r\n")


def test_parquet_keeps_its_types(texts, tmp_path, score):
    source, target = write(tmp_path / "in.parquet", texts), tmp_path / "out.parquet"
    score(source, target)
    before, after = pq.read_table(source), pq.read_table(target)
    assert after.select(before.column_names).equals(before)
    assert after.column_names == [*before.column_names, *ADDED]
    assert pq.ParquetFile(target).num_row_groups == 1


def test_names_that_are_taken_get_a_prefix(tmp_path, score):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text,label\nfine,1\n")
    score(source, target)
    assert target.read_text().startswith("text,label,predicted_label,predicted_probability,")
    score(target, tmp_path / "again.csv")
    assert "reelsense_label" in (tmp_path / "again.csv").read_text()
    with pytest.raises(BadInput, match=r"again.csv: has columns reelsense_\.\.\. already"):
        score(tmp_path / "again.csv", tmp_path / "more.csv")


def test_a_key_that_only_a_later_object_has_is_not_overwritten(tmp_path, score, request_for):
    lines = b'{"text": "fine"}\n{"text": "fine", "label": "mine"}\n'
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(lines)
    score(source, target)
    assert read(target)[1]["label"] == "mine"
    assert read(target)[1]["predicted_label"]


def test_evidence_adds_up(tmp_path, score, texts, tiny_bundle):
    bias = load(tiny_bundle).about["bias"]
    for kind in (".jsonl", ".parquet", ".csv"):
        source, target = write(tmp_path / f"in{kind}", texts), tmp_path / f"out{kind}"
        score(source, target, explain=True)
        for row, text in zip(read(target), texts, strict=True):
            words = row["evidence"] if kind != ".csv" else json.loads(row["evidence"])
            total = sum(word["evidence"] for word in words) + bias
            assert total == pytest.approx(float(row["logit"]), abs=1e-4)
            assert all(text[word["start"] : word["end"]].strip() for word in words)


BAD = b"id,review\n1,fine\n2,\n3,caf\xe9\n4,good\n5,a,b\n6,dull\n"


@pytest.mark.parametrize("after", SUFFIXES)
def test_bad_rows_are_kept_or_skipped_and_listed(after, tmp_path, score):
    source, target = tmp_path / "in.csv", tmp_path / f"out{after}"
    source.write_bytes(BAD)
    kept = score(source, target, on_error="keep")
    labels = [row["label"] for row in read_loosely(target)]
    assert [label is None for label in labels] == [False, True, True, False, True, False]
    listed = errors_of(target)
    assert [(row["row"], row["line"], row["kind"]) for row in listed] == [
        (2, 3, "empty"), (3, 4, "encoding"), (5, 6, "broken"),
    ]  # fmt: skip
    assert (kept.rows, kept.scored) == (6, 3)
    assert kept.problems == {"empty": 1, "encoding": 1, "broken": 1}
    skipped = score(source, tmp_path / f"skipped{after}", on_error="skip")
    rows = read_loosely(tmp_path / f"skipped{after}")
    assert [row["id"] for row in rows] == ["1", "4", "6"]
    assert (skipped, errors_of(tmp_path / f"skipped{after}")) == (kept, listed)


def read_loosely(path):
    """Read an output that has the odd byte of its input."""
    if path.suffix in (".csv", ".tsv"):
        path = path.rename(path.with_name(f"again{path.suffix}"))
        path.write_bytes(path.read_bytes().replace(b"\xe9", b"e"))
    if path.name.endswith(".csv.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"\xe9", b"e")))
    return read(path)


def test_a_bad_row_stops_before_anything_is_scored(tmp_path, request_for):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(BAD)

    def answered(chunks):
        raise AssertionError("nothing may be scored")

    running = score_file(task_for(str(source), str(target)), request_for(), answered)
    with pytest.raises(BadInput, match=r"in.csv: row 2 \(line 3\): the text is empty; mend it"):
        list(running)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


@pytest.mark.parametrize("kind", [".csv", ".jsonl.gz", ".parquet", ".csv.zst"])
@pytest.mark.parametrize("explain", [False, True])
def test_broken_off_anywhere_it_ends_with_the_same_bytes(
    kind, explain, texts, tmp_path, score, request_for, small_parts
):
    source = write(tmp_path / f"in{kind}", [*texts[:10], "", *texts[10:]])
    options = {"on_error": "keep", "explain": explain}
    whole = score(source, tmp_path / f"whole{kind}", **options)
    expected = (tmp_path / f"whole{kind}").read_bytes()
    request = request_for(**options)
    for steps in range(1, 9):  # a step is a chunk, two of them are a part
        target = tmp_path / f"out{steps}{kind}"
        with answering(request.model, 1) as answered:
            running = score_file(task_for(str(source), str(target)), request, answered)
            for _, _ in zip(range(steps), running, strict=False):
                pass
            running.close()
        assert not target.exists()
        assert score(source, target, resume=True, **options) == whole
        assert target.read_bytes() == expected
        assert errors_of(target) == errors_of(tmp_path / f"whole{kind}")


def test_what_is_done_is_not_done_again(texts, tmp_path, score, request_for, small_parts):
    source, target = write(tmp_path / "in.csv", texts), tmp_path / "out.csv"
    request = request_for()
    with answering(request.model, 1) as answered:
        running = score_file(task_for(str(source), str(target)), request, answered)
        for seen in running:
            if seen.rows >= 12:
                break
        running.close()
    asked = []

    def counting(chunks):
        with answering(request.model, 1) as answered:
            yield from answered(asked.append(chunk) or chunk for chunk in chunks)

    running = score_file(task_for(str(source), str(target)), request, counting, True)
    assert next(running).rows == 12
    list(running)
    assert [text for chunk in asked for text in chunk] == texts[12:]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"confidence": 0.9}, "--threshold was the model's, is 0.9"),
        ({"on_error": "skip"}, "--on-error was keep, is skip"),
        ({"explain": True}, "--explain was off, is on"),
        ({"text_column": "review"}, "--text-column was found, is review"),
        ("input", r"input was in.csv \(sha256 .*, is in.csv \(sha256"),
        ("model", "model was tiny .*, is other"),
    ],
)
def test_work_goes_on_only_as_it_was_begun(
    change, said, texts, tmp_path, score, request_for, small_parts, make_bundle, monkeypatch
):
    source, target = write(tmp_path / "in.csv", texts), tmp_path / "out.csv"
    request = request_for(on_error="keep")
    with answering(request.model, 1) as answered:
        running = score_file(task_for(str(source), str(target)), request, answered)
        next(running), next(running), next(running), next(running)
        running.close()
    before = sorted(path.name for path in work_of(target))
    if change == "input":
        write(source, [*texts, "more"])
    elif change == "model":
        monkeypatch.setattr("reelsense.inference.request.seal_of", lambda name: "other 123")
    options = {"on_error": "keep"} | (change if isinstance(change, dict) else {})
    with pytest.raises(BadInput, match=rf"--resume: .*out.csv was begun otherwise: {said}"):
        score(source, target, resume=True, **options)
    assert sorted(path.name for path in work_of(target)) == before


def work_of(target):
    return target.with_name(f"{target.name}.partial").iterdir()


def test_damaged_work_is_begun_anew(texts, tmp_path, score, request_for):
    source, target = write(tmp_path / "in.csv", texts), tmp_path / "out.csv"
    folder = tmp_path / "out.csv.partial"
    (folder / "files").mkdir(parents=True)  # as of a folder that once had this name
    (folder / "job.json").write_text("{}")
    with pytest.raises(BadInput, match="damaged; begin anew with --overwrite"):
        score(source, target, resume=True)
    task = task_for(str(source), str(target))
    assert files.finished_before(task, request_for(), resume=False, overwrite=True) is None
    assert score(source, target).rows == 20
    assert not folder.exists()


def test_two_at_the_same_work_are_one_too_many(texts, tmp_path, score):
    source, target = write(tmp_path / "in.csv", texts), tmp_path / "out.csv"
    with (
        work.alone(tmp_path / "out.csv.partial"),
        pytest.raises(BadInput, match=r"out.csv.partial: another process works in it"),
    ):
        score(source, target)
    score(source, target)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_is_one_line_and_what_is_done_stays(
    number, texts, tmp_path, score, small_parts, monkeypatch
):
    source, target = write(tmp_path / "in.csv", texts), tmp_path / "out.csv"
    real, calls = outputs.write_part, []

    def full(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(number, os.strerror(number))
        real(*arguments)

    monkeypatch.setattr(files.outputs, "write_part", full)
    with pytest.raises(Failure, match=r"out.csv.*: (the disk is full|cannot be written)"):
        score(source, target)
    assert not target.exists()
    assert (tmp_path / "out.csv.partial/000000.json").exists()
    score(source, target, resume=True)
    score(source, tmp_path / "whole.csv")
    assert target.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "tsv"])
def test_a_pipe_carries_the_same_bytes(kind, texts, tmp_path, score, request_for, small_parts):
    source, target = write(tmp_path / f"in.{kind}", texts), tmp_path / f"out.{kind}"
    score(source, target)
    request, stream = request_for(), io.BytesIO()
    with answering(request.model, 1) as answered:
        list(score_to_pipe(str(source), request, answered, stream))
    assert stream.getvalue() == target.read_bytes()


def test_chunks_are_small_where_rows_are_large(tmp_path, request_for):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text,x\n" + "".join(f"fine,{'x' * 3_000_000}\n" for _ in range(6)))
    sizes = []

    def answered(chunks):
        for chunk in chunks:
            sizes.append(len(chunk))
            yield [dict.fromkeys(ADDED, 0) | {"label": "x"} for _ in chunk]

    list(score_file(task_for(str(source), str(target)), request_for(), answered))
    assert sizes == [2, 2, 2]


def test_a_row_of_fifty_megabytes_is_listed_and_kept(tmp_path, score):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    huge = "word " * 10_000_000
    source.write_text(f"id,text\n1,fine\n2,{huge}\n3,good\n")
    with pytest.raises(BadInput, match=r"row 2 \(line 3\): the text has 50,000,000 characters"):
        score(source, target)
    score(source, target, on_error="keep")
    assert errors_of(target)[0]["kind"] == "too long"
    lines = target.read_text().splitlines()
    assert lines[2] == f"2,{huge},,,,,"
    assert [line.split(",")[0] for line in lines] == ["id", "1", "2", "3"]


@pytest.mark.slow
def test_processes_change_no_byte(texts, tmp_path, score, small_parts):
    source = write(tmp_path / "in.jsonl", texts * 3)
    score(source, tmp_path / "one.jsonl")
    score(source, tmp_path / "two.jsonl", workers=2)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
