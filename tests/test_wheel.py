"""What users install: the wheel, outside the tree, without network and without the extras."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = [
    "torch", "matplotlib", "pyarrow", "sklearn", "scipy", "jinja2", "safetensors", "onnx",
    "pandas", "PIL", "captum", "starlette", "uvicorn", "httptools", "prometheus_client",
]  # fmt: skip
# Runs the command line out of a folder, with no way to a network or to any package of EXTRAS.
ALONE = f"""
import socket, sys

class Blocked(socket.socket):
    def __init__(self, *args, **kwargs):
        raise AssertionError("a socket was opened")

def blocked(*args, **kwargs):
    raise AssertionError("a name was looked up")

socket.socket = Blocked
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = blocked
for name in {EXTRAS}:
    sys.modules[name] = None
sys.path.insert(0, sys.argv.pop(1))
from reelsense import cli
assert cli.__file__.startswith(sys.path[0]), cli.__file__
cli.main()
"""
SOURCE = ROOT / "src" / "reelsense"
PACKAGE = SOURCE / "pretrained"
SIZE = 40e6  # bytes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = ["pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--disable-pip-version-check", ROOT],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("reelsense-*.whl")
    return path


@pytest.fixture(scope="module")
def reelsense(wheel, tmp_path_factory):
    """Run the command line that the wheel brings; return what it printed."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(*arguments, stdin=b""):
        done = subprocess.run(
            [sys.executable, "-I", "-X", "utf8", "-c", ALONE, folder, *arguments],
            input=stdin,
            capture_output=True,
            cwd=elsewhere,
        )
        assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
        assert not list(elsewhere.iterdir())
        return done.stdout.decode().replace("\r\n", "\n")

    return run


def test_the_wheel_is_small_and_has_whatever_comes_with_the_package(wheel):
    assert wheel.stat().st_size <= SIZE
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    models = {str(path.relative_to(SOURCE)) for path in PACKAGE.rglob("*") if path.is_file()}
    assert {f"pretrained/small/{name}" for name in ("bundle.json", "model.onnx")} <= models
    assert {name for name in names if name.startswith("reelsense/pretrained/")} == {
        f"reelsense/{name}" for name in models
    }
    assert {"reelsense/py.typed", "reelsense/model/recipes/default.toml"} <= set(names)
    page = {f"static/{file.name}" for file in (SOURCE / "serving" / "static").iterdir()}
    assert {f"reelsense/serving/{name}" for name in {"openapi.json", *page}} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"reelsense"}


def test_it_predicts(reelsense):
    texts = ["A wonderful, moving film.", "A dull, boring mess.", ""]
    printed = reelsense("predict", *texts).split("\n")
    assert [line.split()[0] for line in printed[:3]] == ["positive", "negative", "uncertain"]
    given = "".join(f"{text}\n" for text in texts).encode()
    answers = map(json.loads, reelsense("predict", "--json", "-", stdin=given).splitlines())
    assert [answer["label"] for answer in answers] == ["positive", "negative", "uncertain"]


def test_it_explains(reelsense):
    printed = reelsense("predict", "--explain", "A wonderful cast. The script is a boring mess!")
    for expected in ("log-odds ", "wonderful[+", "boring[-", "Sentences\n", "Most for negative\n"):
        assert expected in printed


def test_info_knows_the_shipped_model(reelsense):
    printed = reelsense("info")
    folder = Path("reelsense", "pretrained", "small")
    for expected in ("Accuracy ", " held-out reviews", str(folder), "onnxruntime "):
        assert expected in printed
    assert "\nPackage     holds small" in printed
    assert reelsense("info", "--model", "small") == reelsense("info", "--model", "shipped")


def test_doctor_finds_it_whole_and_the_extras_missing(reelsense):
    printed = reelsense("doctor")
    assert "files are as they were written" in printed
    assert "reviews/s" in printed
    for name in ("torch", "sklearn", "matplotlib"):
        assert f"{name} " in printed
    assert 'pip install "reelsense[train' in printed
