"""The scorer on a real Ray cluster: two nodes of one core each, started here and ended here."""

import csv
import json
import os
import pickle
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from reelsense import __version__
from reelsense.errors import BadInput, Failure
from reelsense.inference import folders
from reelsense.inference.files import task_for
from reelsense.inference.ray_cluster import Cluster, connected, need_address
from reelsense.inference.workers import answering

# Ray reads at its import whether it needs a token: here nothing imports it before there is one.
if find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)

START = [
    sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block",
    "--num-cpus=1", "--object-store-memory=100000000",
    "--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats",
]  # fmt: skip
ACTOR = "ray::MapWorker(MapBatches(Scorer)).submit"


def wait_for(what, seconds=60):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "this took too long"
        time.sleep(0.05)
    return found


def text_of(path):
    return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def cluster():
    """Start a cluster with a token of its own; return its address and its folder.

    The paths of its sockets must be short, so the folder is not below pytest's.
    """
    nodes = []
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as name:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex())
        patch.setenv(
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0"
        )  # else its end takes half a minute

        def start(log, *options):
            with Path(name, log).open("w") as said:
                nodes.append(
                    subprocess.Popen(
                        [*START, *options], stdout=said, stderr=said, start_new_session=True
                    )
                )

        try:
            start("head", "--head", "--port=0", "--include-dashboard=false", f"--temp-dir={name}")
            at = wait_for(lambda: text_of(Path(name, "ray_current_cluster"))).strip()
            start("node", f"--address={at}")
            for log in ("head", "node"):
                wait_for(lambda log=log: "Ray runtime started" in text_of(Path(name, log)))
            yield at, name
        finally:
            for node in reversed(nodes):
                node.terminate()
            for node in reversed(nodes):
                try:
                    node.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(node.pid, signal.SIGKILL)
                    node.wait()


@pytest.fixture(scope="module")
def address(cluster):
    return cluster[0]


def write_csv(path, texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "review"], *enumerate(texts)])


@pytest.fixture
def partitions(tmp_path, made_up_texts, monkeypatch):
    """Write four files, one below another folder, each with a row that has no text."""
    monkeypatch.chdir(tmp_path)

    def make(rows):
        for place, name in enumerate(("a.csv", "b.csv", "sub/a.csv", "z.csv")):
            texts = made_up_texts(rows, place)
            random.Random(place).shuffle(texts)
            texts[rows // 2 + place] = "" if place % 2 else "a\nlovely film, é"
            write_csv(tmp_path / "in" / name, texts)

    return make


def run_out(running):
    """Return what a generator returns, and what it yields."""
    seen = []
    while True:
        try:
            seen.append(next(running))
        except StopIteration as ended:
            return ended.value, seen


@pytest.fixture
def here(request_for):
    """Score a folder in this process."""

    def run(source, target, **options):
        request = request_for(**options)
        folder = folders.read_folder(source, target, request)
        with answering(request.model, 1) as answered:
            return run_out(folders.score_folder(folder, request, answered))[0]

    return run


@pytest.fixture
def there(request_for, address):
    """Score a folder on the cluster."""

    def run(source, target, actors=None, **options):
        request = request_for(**options)
        folder = folders.read_folder(source, target, request)
        assert folders.finished_before(folder, False, False) is None
        return apart("score_folder", folder, request, Cluster(address, actors))

    return run


APART = """
import pickle, sys
from reelsense.errors import BadInput
from reelsense.inference import ray_job
job, arguments = pickle.load(sys.stdin.buffer)
running, seen = getattr(ray_job, job)(*arguments), []
try:
    while True:
        seen.append(next(running))
except StopIteration as ended:
    result = ended.value
except BadInput as error:
    result = error
with open(sys.argv[1], "wb") as file:
    pickle.dump((result, seen), file)
"""


def apart(job, *arguments):
    """Return what a job gives and yields, run in a process of its own.

    Ray has ended that of the tests without a word, when it connected for the fourth time.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "said")
        command = [sys.executable, "-c", APART, str(file)]
        subprocess.run(command, input=pickle.dumps((job, arguments)), check=True)
        result, seen = pickle.loads(file.read_bytes())
    if isinstance(result, BadInput):
        raise result
    return result, seen


def files_in(folder):
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def same(one, other):
    """Check that two folders have the same answers, and the same is said of them."""
    assert files_in(one) == files_in(other)
    for end in (".errors.jsonl", ".summary.json"):
        assert text_of(Path(f"{one}{end}")) == text_of(Path(f"{other}{end}"))
    assert not Path(f"{other}.partial").exists()


def actors_at_work(folder):
    """Return the actors that score a file, with their nodes: of the cluster that was started here.

    Others on this machine may run the same: the sockets of a node are in its cluster's folder.
    """
    lines = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args=", "-ww"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    split = (line.split(None, 2) for line in lines)
    found = {int(pid): (int(parent), args) for pid, parent, args in split}
    ours = {pid for pid, (_, args) in found.items() if "raylet" in args and folder in args}
    return {pid: node for pid, (node, args) in found.items() if ACTOR in args and node in ours}


def driver(address, tiny_bundle, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "reelsense", "score", "in", "out", "--model", str(tiny_bundle),
         *arguments, "--ray", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_an_actor_that_is_killed_changes_nothing(partitions, here, cluster, tiny_bundle):
    partitions(8_000)
    address, folder = cluster
    with driver(address, tiny_bundle, "--on-error", "keep") as running:
        first = next(iter(wait_for(lambda: actors_at_work(folder))))
        os.kill(first, signal.SIGSTOP)  # else it may have done all before the other begins
        found = wait_for(lambda: len(found := actors_at_work(folder)) == 2 and found)
        assert len(set(found.values())) == 2  # an actor on each node
        os.kill(first, signal.SIGKILL)
        out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (0, "")
    assert "Rows       32,000\nNo answer  2 (empty 2); listed in out.errors.jsonl" in err
    assert "raylet" not in err
    assert "Warning" not in err
    here("in", "local", on_error="keep")
    same("local", "out")
    assert not list(Path(tempfile.gettempdir()).glob("reelsense-ray-*/file"))


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on(partitions, here, address, tiny_bundle):
    partitions(4_000)
    options = ["--on-error", "skip", "--workers", "1"]
    with driver(address, tiny_bundle, *options) as running:
        summaries = Path("out.partial", "summaries")
        done = wait_for(lambda: list(summaries.rglob("*.json")))[0]
        running.kill()
    before = done.stat().st_mtime_ns
    name = str(done.relative_to(summaries)).removesuffix(".json")
    answers = Path("out.partial", "files", name)
    written = answers.stat().st_mtime_ns
    with driver(address, tiny_bundle, *options, "--resume") as again:
        kept = wait_for(lambda: Path("out.partial/files").exists() and done.stat().st_mtime_ns)
        assert again.wait(120) == 0, again.stderr.read()
    assert (kept, Path("out", name).stat().st_mtime_ns) == (before, written)
    here("in", "local", on_error="skip")
    same("local", "out")


@pytest.mark.slow
def test_lines_of_json_and_what_is_seen_meanwhile(there, here, tmp_path, made_up_texts):
    source = tmp_path / "in"
    source.mkdir()
    for place in range(3):
        rows = [{"text": text, "n": place} for text in made_up_texts(40, place)]
        rows[7]["text"] = None
        (source / f"{place}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole, seen = there(str(source), str(tmp_path / "out"), actors=9, on_error="skip")
    assert here(str(source), str(tmp_path / "local"), on_error="skip") == whole
    assert (whole.rows, whole.problems) == (120, {"null": 3})
    assert seen[-1].doing.endswith("3 of 3 files")
    assert seen[-1].rows == 120
    same(tmp_path / "local", tmp_path / "out")


@pytest.mark.slow
def test_parquet_to_an_address(there, here, tmp_path, made_up_texts):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "in").mkdir()
    for place in range(2):
        table = pa.table({"review": made_up_texts(50, place), "n": range(50)})
        pq.write_table(table, tmp_path / "in" / f"{place}.parquet")
    root = f"file://{tmp_path}"
    there(f"{root}/in", f"{root}/out", explain=True)
    here(f"{root}/in", f"{root}/local", explain=True)
    same(tmp_path / "local", tmp_path / "out")


@pytest.mark.slow
def test_a_bad_row_stops_all_in_the_words_of_one_machine(there, here, partitions, tmp_path):
    partitions(50)
    with pytest.raises(BadInput) as one:
        here("in", "local")
    with pytest.raises(BadInput) as other:
        there("in", "out")
    # Which of the two files with a bad row comes first is not said.
    names = {"in/b.csv": "row 27 (line 27)", "in/z.csv": "row 29"}
    assert str(one.value).split(":")[0] in names
    assert str(other.value).split(":")[0] in names
    assert str(one.value).split(": ")[2:] == str(other.value).split(": ")[2:]


@pytest.mark.slow
def test_one_file(address, score, request_for, tmp_path, made_up_texts):
    write_csv(tmp_path / "in.csv", made_up_texts(60))
    score(tmp_path / "in.csv", tmp_path / "local.jsonl")
    task = task_for(str(tmp_path / "in.csv"), str(tmp_path / "out.jsonl"))
    apart("score_file", task, request_for(), Cluster(address))
    for end in ("", ".summary.json"):
        one, other = (Path(f"{tmp_path}/{name}.jsonl{end}") for name in ("local", "out"))
        assert one.read_bytes() == other.read_bytes()
    assert not task.folder.exists()


def test_a_machine_without_the_package_or_with_another_version_says_so():
    program = """
import sys
from ray import cloudpickle
from reelsense.inference import ray_job
sent = cloudpickle.dumps(ray_job._actor())
for name in [name for name in sys.modules if name.startswith("reelsense")]:
    del sys.modules[name]
sys.modules.update(eval(sys.argv[1]))
print(cloudpickle.loads(sent)("9.9", {}, "", {})({"task": [3]})["said"][0])
"""

    def said(modules):
        done = subprocess.run(
            [sys.executable, "-c", program, modules], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    missing = said("{'reelsense': None}")
    assert missing["task"] == 3
    assert not missing["is_input"]
    assert "has no package reelsense; install the same on every machine" in missing["refused"]
    assert f"has reelsense {__version__}, and the driver 9.9; install" in said("{}")["refused"]


def test_what_is_no_address_is_taken_for_a_misplaced_option():
    for address in ("", "auto", "local", "10.0.0.1:6379", "[::1]:6379", "head:6379"):
        need_address(address)
    for address in ("in", "in.csv", "ray://head:10001", "http://head:8265", "s3://a/b"):
        with pytest.raises(BadInput, match=r"give HOST:PORT, .*, or put --ray last"):
            need_address(address)


def answering_with(data):
    """Open a port that says something to whoever connects."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer():
        with closing(server.accept()[0]) as line:
            line.sendall(data)
            line.recv(100)

    threading.Thread(target=answer, daemon=True).start()
    return server


def test_a_cluster_that_does_not_answer_is_named_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"127.0.0.1:{server.getsockname()[1]}"
    begin = time.monotonic()
    with pytest.raises(Failure, match=f"--ray {closed}: no cluster answers there"):
        connected(Cluster(closed)).__enter__()
    with answering_with(b"HTTP/1.1 400 Bad Request\r\n") as server:
        other = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Failure, match=f"--ray {other}: .*something else listens there"):
            connected(Cluster(other)).__enter__()
    assert time.monotonic() - begin < 5


def test_without_ray_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Failure, match=r'package ray; run: pip install "reelsense\[scale\]"'):
        connected(Cluster("local")).__enter__()
