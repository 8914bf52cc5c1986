"""Every verb says no in one line, before it has made anything."""

import gzip
import zipfile

import pytest

TINY = "a tiny run"  # stands for the arguments of the fixture
DATA = [TINY, "--data"]
VECTORS = [TINY, "--embedding"]
HTML = "<!DOCTYPE html><html>404</html>"

BAD_FILES = {
    "empty.csv": "",
    "columns.csv": "a,b\n1,2\n",
    "three.csv": "text,label\na,neg\nb,pos\nc,meh\n",
    "two.csv": "text,label\na,bad\nb,good\n",
    "one.csv": "text,label\na,1\nb,1\n",
    "few.csv": "text,label\na,1\nb,0\n",
    "blank.csv": "text,label\n ,1\n,0\n",
    "latin.csv": b"text,label\ncaf\xe9,1\nb,0\n",
    "rare.csv": "text,label\n" + "".join(f"w{row},{row % 2}\n" for row in range(60)),
    "broken.tar.gz": gzip.compress(b"no archive"),
    "html.tar.gz": HTML,
    "broken.parquet": b"PAR1 and no more",
    "broken.jsonl": '{"text": "a", "label": 1}\n{"text"\n',
    "notes.txt": "hello",
    "short.vec": "the 1 2 3\nfilm 1 2\n",
    "dimensions.vec": "the 1 2 3\nfilm 1 2 3 4\n",
    "nan.vec": "the 1 2 nan\n",
    "empty.vec": "",
    "broken.zip": b"PK\x03\x04 and no more",
    "html.zip": HTML,
    "key.toml": "hiden = 3\n",
    "value.toml": 'hidden = "many"\n',
    "syntax.toml": "hidden = \n",
    "latin.toml": b'name = "caf\xe9"\n',
}

REFUSED = [
    (["nope"], "No such command 'nope'; see `reelsense --help`"),
    (["train", "--nope"], "No such option '--nope'.*; see `reelsense train --help`"),
    (["train", "extra"], "unexpected extra argument"),
    (["train", "--hidden", "x"], "'--hidden': 'x' is not a valid integer"),
    (["train", "--hidden", "0"], "--hidden must be at least 1, not 0"),
    (["train", "--keep", "x"], "'--keep': 'x' is not one of"),
    (["train", "--learning-rate", "nan"], "--learning-rate must be from"),
    (["train", "--clip", "inf"], "--clip must be finite"),
    (["train", "--threads", "0"], "--threads"),
    (["train", "--validation", "0.6", "--test", "0.5"], "leave nothing to train on"),
    (["train", "--crop-tokens", "9", "--max-tokens", "5"], "--crop-tokens 9 is longer than"),
    (
        ["train", "--recipe", "nope"],
        "ones are accurate, attention, bigru, classic, cnn-lstm",
    ),
    (["train", "--unlabelled", "bundled"], "ask for some with --unlabelled-share"),
    (["recipes", "nope"], "ones are accurate, attention, bigru, classic, cnn-lstm"),
    (["train", "--recipe", "key.toml"], "key.toml: unknown key 'hiden'"),
    (["train", "--recipe", "value.toml"], "value.toml: --hidden must be a whole number"),
    (["train", "--recipe", "syntax.toml"], "syntax.toml: not valid TOML"),
    (["train", "--recipe", "latin.toml"], "latin.toml: not a TOML file"),
    ([TINY, "--resume"], "there is no run at run; leave --resume out"),
    (["train", "--run", "notes.txt"], "notes.txt is a file, not a folder"),
    (["train", "--run", "notes.txt/run"], "notes.txt is a file, not a folder"),
    (["train", "--run", "r" * 300], "cannot be a folder"),
    ([*DATA, ""], "--data is empty"),
    ([*DATA, "missing.csv"], "missing.csv: there is no such file"),
    ([*DATA, "empty.csv"], "empty.csv: the file is empty"),
    ([*DATA, "columns.csv"], "columns.csv: no column looks like the label"),
    ([*DATA, "reviews.csv", "--text-column", "x"], r"no column 'x' \(--text-column\)"),
    ([*DATA, "three.csv"], r"three.csv: row 3 \(line 4\) has the label 'meh'"),
    ([*DATA, "two.csv"], "--labels NEGATIVE,POSITIVE"),
    ([*DATA, "two.csv", "--labels", "bad"], "--labels bad: give two different labels"),
    ([*DATA, "two.csv", "--labels", "bad,Bad"], "--labels takes two different values"),
    ([*DATA, "one.csv"], "one.csv: all 2 reviews are positive"),
    ([*DATA, "few.csv"], "few.csv: 2 reviews are too few to split"),
    ([*DATA, "blank.csv"], r"blank.csv: no reviews in it \(2 rows"),
    ([*DATA, "latin.csv"], "latin.csv: line 2 is not UTF-8"),
    ([*DATA, "rare.csv", "--min-count", "2"], "rare.csv: no word is left.*--min-count"),
    ([*DATA, "broken.tar.gz"], "broken.tar.gz: the archive is broken or cut short"),
    ([*DATA, "html.tar.gz"], "html.tar.gz: not a whole .tar.gz"),
    ([*DATA, "broken.parquet"], "broken.parquet: broken or not Parquet"),
    ([*DATA, "broken.jsonl"], "broken.jsonl: line 2 is not JSON"),
    ([*DATA, "notes.txt"], "notes.txt: unknown kind of file"),
    ([*DATA, "."], "a folder, but not aclImdb"),
    (["train", "--recipe", "classic", "--validation", "0"], "--patience 3 .*--validation 0"),
    (["train", "--from", "shipped"], "--from needs --data"),
    (["train", "--from", "small"], "--from needs --data"),
    (["train", "--from", "x", "--data", "reviews.csv"], "--from x: there is no such folder; ch"),
    (["train", "--from", ".", "--data", "reviews.csv"], "not a bundle, it has no bundle.json"),
    (["train", "--from", ".", "--recipe", "quick"], "--recipe quick cannot go with --from"),
    ([*DATA, "bundled", "--text-column", "x"], "bundled: has no columns"),
    ([*VECTORS, "missing.vec"], "missing.vec: no such file of word vectors"),
    ([*VECTORS, "empty.vec"], "empty.vec: line 1 is not a word and its vector"),
    ([*VECTORS, "short.vec"], "short.vec, line 2: 2 numbers, where the first line has 3"),
    ([*VECTORS, "dimensions.vec"], "dimensions.vec, line 2: 4 numbers, where"),
    ([*VECTORS, "nan.vec"], "nan.vec, line 1: not 3 finite numbers"),
    ([*VECTORS, "broken.zip"], "broken.zip: not a whole zip file"),
    ([*VECTORS, "html.zip"], "html.zip: a web page saved under this name"),
    ([*VECTORS, "glove.zip:300d"], "glove.zip: no 300d.*it holds glove.6B.5d.txt"),
    ([*VECTORS, "glove.6B.100d"], "run `reelsense download glove`"),
    ([*VECTORS, ""], "cannot be read"),
    (["evaluate"], "Missing argument 'MODEL'; see `reelsense evaluate --help`"),
    (["evaluate", "missing"], "missing: not the folder of a run"),
    (["evaluate", "."], "not the folder of a run"),
    (["evaluate", "notes.txt"], "notes.txt: not the folder of a run"),
    (["evaluate", ".", "--labels", "a,b"], "--labels go with --data"),
    (["evaluate", "small"], "a bundle brings no reviews; name labelled ones with --data"),
    (["evaluate", "shipped"], "a bundle brings no reviews; name labelled ones with --data"),
    (["evaluate", "shipped", "--data", "one.csv", "--device", "cuda"], "on the processor"),
    (["export"], "Missing argument 'RUN'; see `reelsense export --help`"),
    (["export", "."], "Missing argument 'FOLDER'"),
    (["export", "missing", "to"], "missing: not the folder of a run"),
    (["export", ".", "to"], "not the folder of a run"),
    (["export", "missing", "."], "is not empty; name another folder"),
    (["export", "missing", ".", "--overwrite"], "is not a bundle and stays"),
    (["export", "missing", "notes.txt"], "notes.txt is a file, not a folder"),
    (["export", "missing", "to", "--held-out", "gone"], "gone: not the folder of a run"),
    (["export", ".", "to", "--variant", "int4"], "'int4' is not one of 'fp32', 'int8'"),
    (["data", "--data", "one.csv"], "one.csv: all 2 reviews are positive"),
    (["data", "--data", "reviews.csv", "--out", "notes.txt"], "notes.txt is a file"),
    (["download"], "Choose from: imdb, glove"),
    (["download", "word2vec"], "'word2vec' is not one of 'imdb', 'glove'"),
    (["download", "imdb", "--from", "notes.txt", "--to", "to"], "--from notes.txt: cut short: 5"),
    (["download", "glove", "--from", "html.zip", "--to", "to"], "html.zip: a web page saved"),
    (["download", "imdb", "--from", "missing", "--to", "to"], "missing: cannot be read"),
    (["download", "imdb", "--to", "notes.txt/to"], "notes.txt is a file, not a folder"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), REFUSED, ids=[" ".join(row[0])[-40:] for row in REFUSED]
)
def test_bad_input_is_one_line_and_leaves_nothing(
    reelsense, refused, tiny, here, monkeypatch, arguments, message
):
    monkeypatch.setenv("REELSENSE_CACHE", str(here / "cache"))
    for name, content in BAD_FILES.items():
        (here / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with zipfile.ZipFile(here / "glove.zip", "w") as archive:
        archive.writestr("glove.6B.5d.txt", "the 1 2 3 4 5\n")
    before = sorted(here.rglob("*"))
    given = [*tiny, *arguments[1:]] if arguments[0] == TINY else arguments
    refused(reelsense(*given), 2, message)
    assert sorted(here.rglob("*")) == before
