"""docs/spark.py, as Spark runs it, where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import reelsense

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parent.parent / "docs/spark.py"


def test_spark_gives_the_answers_of_the_model(tmp_path):
    pytest.importorskip("pyspark")
    pytest.importorskip("pandas")
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    texts = ["A great and moving film.", "Awful, dull and boring.", "", "It was.", None] * 10
    table = pa.table({"id": range(len(texts)), "text": texts})
    (tmp_path / "in").mkdir()
    pq.write_table(table.slice(0, 20), tmp_path / "in/a.parquet")
    pq.write_table(table.slice(20), tmp_path / "in/b.parquet")
    done = subprocess.run(
        [sys.executable, SCRIPT, "in", "out"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_SUBMIT_ARGS": "--master local[2] pyspark-shell",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = sorted(pq.read_table(tmp_path / "out").to_pylist(), key=lambda row: row["id"])
    found = reelsense.load()(texts)
    assert rows == [
        {"id": n, "text": text, "label": one.label, "probability": one.probability}
        for n, (text, one) in enumerate(zip(texts, found, strict=True))
    ]
