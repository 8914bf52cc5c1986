"""Files and folders in an object store, spoken to as S3 is: moto's server on this machine."""

import socket
import subprocess
import sys
import time

import pytest
from pyarrow import fs

from reelsense.errors import BadInput
from reelsense.inference import places
from reelsense.inference.folders import finished_before, read_folder, score_folder
from reelsense.inference.workers import answering

pytest.importorskip("moto")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket():
    """Start a server with a bucket; return an address in it, and its file system."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        store = fs.S3FileSystem(
            access_key="a", secret_key="b", endpoint_override=f"127.0.0.1:{port}", scheme="http",
            region="us-east-1", allow_bucket_creation=True,
        )  # fmt: skip
        store.create_dir("bucket")
        options = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        yield (lambda name: f"s3://a:b@bucket/{name}?{options}"), store
    finally:
        server.kill()
        server.wait()


def put(store, name, data):
    with store.open_output_stream(f"bucket/{name}") as file:
        file.write(data)


def get(store, name):
    with store.open_input_file(f"bucket/{name}") as file:
        return file.read()


def test_a_file_and_a_folder_are_scored_as_on_a_disk(bucket, tmp_path, score, request_for):
    at, store = bucket
    names = ("in/a.csv", "in/b/c.csv")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("id,review\n1,a great film\n2,dull\n")
        put(store, name, (tmp_path / name).read_bytes())
    score(tmp_path / "in/a.csv", tmp_path / "a.csv")
    expected = (tmp_path / "a.csv").read_bytes()

    score(at("in/a.csv"), at("alone.csv"))
    assert get(store, "alone.csv") == expected

    request = request_for()
    folder = read_folder(at("in"), at("out"), request)
    assert finished_before(folder, resume=False, overwrite=False) is None
    with answering(request.model, 1) as answered:
        running = score_folder(folder, request, answered)
        for seen in running:  # broken off when the first file is done
            if "c.csv" in seen.doing:
                break
        running.close()
        assert get(store, "out/a.csv") == expected
        list(score_folder(folder, request, answered))
    assert [get(store, name.replace("in", "out", 1)) for name in names] == [expected, expected]
    assert finished_before(folder, resume=True, overwrite=False).rows == 4
    assert places.what_is(at("out.partial")) == "nothing"
    with pytest.raises(BadInput, match="there is no such file"):
        places.read(at("nowhere.csv"))
