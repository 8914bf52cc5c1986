"""The memory that a file takes does not grow with it. No model: what it takes is its own."""

import gzip
import json
import random
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# Scores a file with made-up answers and prints how much memory the process has held, in MiB.
PROGRAM = """
import sys
from reelsense.inference import files
from reelsense.inference.request import Request
from reelsense.memory import peak_memory_mb
answer = {"label": "x", "probability": 0.5, "tokens": 1, "unknown": 0.0, "truncated": False}
files.PART = 4
task = files.task_for(sys.argv[1], sys.argv[2])
for _ in files.score_file(task, Request(), lambda chunks: ([answer] * len(c) for c in chunks)):
    pass
print(peak_memory_mb())
"""
FEW, MANY = 10_000, 80_000  # rows of a kilobyte that nothing can compress much


def peak(source, target):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, source, target], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def write(path, rows):
    chance = random.Random(0)
    texts = (chance.randbytes(500).hex() for _ in range(rows))
    if path.suffix == ".parquet":  # of one row group
        table = pa.table({"text": list(texts)})
        pq.write_table(table, path, row_group_size=rows, use_dictionary=False, compression="none")
        return
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt") as file:
        if ".csv" in path.name:
            file.write("text\n")
        for text in texts:
            file.write(f"{text}\n" if ".csv" in path.name else json.dumps({"text": text}) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".csv", ".jsonl.gz", ".parquet"])
def test_eight_times_the_rows_take_no_more_memory(kind, tmp_path):
    peaks = []
    for rows in (FEW, MANY):
        source = tmp_path / f"{rows}{kind}"
        write(source, rows)
        peaks.append(peak(source, tmp_path / f"out{rows}{kind}"))
    assert peaks[1] - peaks[0] < 25, peaks  # the file has grown by 70 MB
