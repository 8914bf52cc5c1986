import subprocess
import sys

from reelsense.memory import peak_memory_mb


def test_it_is_what_linux_says_in_mib_whatever_else_stands_there(tmp_path):
    (tmp_path / "status").write_bytes(b"Name:\tp\xff\nVmPeak:\t 9999 kB\nVmHWM:\t  2560 kB\n")
    assert peak_memory_mb(tmp_path / "status") == 2.5


def test_elsewhere_it_is_what_every_unix_says(tmp_path):
    assert 10 < peak_memory_mb(tmp_path / "missing") < 100_000
    (tmp_path / "status").write_text("Name:\tpython\n")
    assert peak_memory_mb(tmp_path / "status") == peak_memory_mb(tmp_path / "missing")


def test_it_grows_with_what_is_held_and_is_not_that_of_the_parent():
    held = bytearray(300 * 2**20)
    code = "from reelsense.memory import peak_memory_mb as p; print(p())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(held) / 2**20 < peak_memory_mb()
    assert 5 < float(child.stdout) < 200
