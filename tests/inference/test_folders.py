"""A folder of files of reviews, on a disk and in a file system that has addresses."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reelsense.errors import BadInput
from reelsense.inference import folders
from reelsense.inference.folders import finished_before, read_folder, score_folder
from reelsense.inference.workers import answering


@pytest.fixture
def source(tmp_path, made_up_texts):
    texts = made_up_texts(30)
    folder = tmp_path / "in"
    for number, name in enumerate(("a.csv", "b/c.csv", "b/d.csv.gz")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(f'{n},"{texts[n]}"\n' for n in range(10 * number, 10 * number + 10))
        data = f"id,review\n{rows}".encode()
        if path.suffix == ".gz":
            import gzip

            data = gzip.compress(data)
        path.write_bytes(data)
    (folder / "_SUCCESS").touch()
    (folder / ".a.csv.crc").touch()
    return folder


@pytest.fixture
def run(request_for):
    """Score a folder; stop after some steps if asked to."""

    def call(source, target, steps=None, resume=False, overwrite=False, **options):
        request = request_for(**options)
        folder = read_folder(str(source), str(target), request)
        if (done := finished_before(folder, resume, overwrite)) is not None:
            return done
        with answering(request.model, 1) as answered:
            running = score_folder(folder, request, answered)
            taken = 0
            while taken != steps:
                try:
                    next(running)
                except StopIteration as ended:
                    return ended.value
                taken += 1
            running.close()
        return None

    return call


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_each_file_is_scored_as_one_alone(source, tmp_path, run, score):
    whole = run(source, tmp_path / "out")
    assert set(tree(tmp_path / "out")) == {"a.csv", "b/c.csv", "b/d.csv.gz"}
    assert whole.rows == 30
    for name, data in tree(tmp_path / "out").items():
        alone = tmp_path / "alone" / name
        score(source / name, alone)
        assert alone.read_bytes() == data
    assert json.loads((tmp_path / "out.summary.json").read_text())["tally"]["rows"] == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "alone", "in", "out", "out.summary.json",
    ]  # fmt: skip


def test_broken_off_anywhere_it_ends_with_the_same_bytes(source, tmp_path, run, small_parts):
    (source / "b/c.csv").write_text("id,review\n1,fine\n2,\n3,dull\n")
    whole = run(source, tmp_path / "whole", on_error="skip")
    for steps in range(1, 18, 2):
        target = tmp_path / f"out{steps}"
        if run(source, target, steps, on_error="skip") is None:
            assert not target.exists()
            assert run(source, target, resume=True, on_error="skip") == whole
        assert tree(target) == tree(tmp_path / "whole")
        listed = (tmp_path / f"out{steps}.errors.jsonl").read_text()
        assert json.loads(listed) == {
            "file": "b/c.csv", "row": 2, "line": 3, "kind": "empty",
            "problem": "the text is empty",
        }  # fmt: skip


def test_a_run_that_ended_between_two_renames_goes_on(source, tmp_path, run, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folders, "summary_json", killed)
        with pytest.raises(KeyboardInterrupt):
            run(source, tmp_path / "out")
    assert (tmp_path / "out/a.csv").exists()
    assert run(source, tmp_path / "out", resume=True).rows == 30
    assert not (tmp_path / "out.partial").exists()


def test_a_file_that_has_changed_is_another_input(source, tmp_path, run, small_parts):
    run(source, tmp_path / "out", 8)
    with (source / "a.csv").open("a") as file:
        file.write("31,more\n")
    with pytest.raises(BadInput, match=r"--resume: .*out was begun otherwise: input was in \(3"):
        run(source, tmp_path / "out", resume=True)


def test_what_is_there_is_not_replaced_unasked(source, tmp_path, run, small_parts):
    target = tmp_path / "out"
    run(source, target, 8)
    with pytest.raises(BadInput, match="out: was begun and interrupted; --resume"):
        run(source, target)
    first = run(source, target, overwrite=True)
    with pytest.raises(BadInput, match="out: exists; --overwrite"):
        run(source, target)
    assert run(source, target, resume=True) == first
    with pytest.raises(BadInput, match=r"begun otherwise: --on-error was stop, is keep"):
        run(source, target, resume=True, on_error="keep")
    (target / "a.csv").unlink()
    assert run(source, target, overwrite=True) == first
    assert (target / "a.csv").exists()
    assert not (tmp_path / "out.partial").exists()


def test_a_folder_of_others_stays(source, tmp_path, run):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.csv").write_text("text\nfine\n")
    with pytest.raises(BadInput, match="was not made by `reelsense score` and stays"):
        run(source, tmp_path / "mine", overwrite=True)
    with pytest.raises(BadInput, match="is the input"):
        run(source, source)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("where", ["{}/out", "file://{}/out"])
def test_a_folder_of_others_in_the_place_of_unfinished_work_stays(
    where, overwrite, source, tmp_path, run
):
    mine = tmp_path / "out.partial/thesis.csv"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(BadInput, match=r"out.partial: not unfinished work of `reelsense score`"):
        run(source, where.format(tmp_path), overwrite=overwrite)
    assert mine.read_text() == "mine"
    assert list(mine.parent.iterdir()) == [mine]


def test_a_folder_made_while_the_work_was_broken_off_stays(source, tmp_path, run, small_parts):
    run(source, tmp_path / "out", 8)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.csv").write_text("mine")
    for flag in ("overwrite", "resume"):
        with pytest.raises(BadInput, match="was not made by `reelsense score` and stays"):
            run(source, tmp_path / "out", **{flag: True})
    assert (tmp_path / "out/thesis.csv").read_text() == "mine"


def test_damaged_work_is_begun_anew(source, tmp_path, run, small_parts):
    run(source, tmp_path / "out", 8)
    (tmp_path / "out.partial/job.json").write_text("{")
    with pytest.raises(BadInput, match="damaged; begin anew with --overwrite"):
        run(source, tmp_path / "out", resume=True)
    assert run(source, tmp_path / "out", overwrite=True).rows == 30


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("z.jsonl", b'{"text": "fine"}\n', "a.csv and z.jsonl are of different kinds"),
        ("z.pdf", b"%PDF", "z.pdf: its name does not say"),
        ("z.csv", b"id,text\n1,fine\n", "a.csv and z.csv differ: the text is in 'review' and in"),
        ("z.csv", b"n,review\n1,fine\n", "a.csv and z.csv differ: the columns are id, review and"),
        ("z.csv", b"id,review\n1,\n", r"z.csv: row 1 \(line 2\): the text is empty"),
        ("z.csv", b"", "z.csv: the file is empty"),
    ],
)
def test_files_that_do_not_belong_together(name, data, said, source, tmp_path, run):
    (source / name).write_bytes(data)
    with pytest.raises(BadInput, match=said):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_schemas_of_parquet_that_differ(tmp_path, run):
    (tmp_path / "in").mkdir()
    for name, kind in (("a", pa.int32()), ("b", pa.string())):
        table = pa.table({"text": ["fine"], "id": pa.array([None], kind)})
        pq.write_table(table, tmp_path / "in" / f"{name}.parquet")
    with pytest.raises(BadInput, match=r"a.parquet and b.parquet differ: 'id' holds int32 and str"):
        run(tmp_path / "in", tmp_path / "out")


def test_plain_text_becomes_tables(tmp_path, run):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("fine\ndull\n")
    run(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out/a.csv").read_text().startswith("text,label,")


def test_addresses_are_places_too(source, tmp_path, run):
    whole = run(source, tmp_path / "whole")
    there = f"file://{tmp_path}/there"
    assert run(f"file://{source}", there, steps=4) is None
    assert run(f"file://{source}", there, steps=5, overwrite=True) is None
    assert run(f"file://{source}", there, resume=True) == whole
    assert tree(tmp_path / "there") == tree(tmp_path / "whole")
    assert not (tmp_path / "there.partial").exists()
    with pytest.raises(BadInput, match="nowhere://bucket/in: no place that pyarrow knows"):
        run("nowhere://bucket/in", tmp_path / "out")


def test_an_empty_folder(tmp_path, run):
    (tmp_path / "in").mkdir()
    with pytest.raises(BadInput, match="in: a folder without files"):
        run(tmp_path / "in", tmp_path / "out")


def test_names_of_outputs():
    assert folders.output_name("a/b.txt.gz") == "a/b.csv.gz"
    assert folders.output_name("a/b.parquet") == "a/b.parquet"
