"""Score the column `text` of Parquet files in Spark: `spark-submit docs/spark.py IN OUT`."""

import sys
from functools import cache

from pyspark.sql import SparkSession
from pyspark.sql.types import StructType


@cache
def model():
    """Open the model, once in each Python process of Spark, which runs many tasks."""
    import reelsense

    return reelsense.load(threads=1)  # Spark has a process for each core


def score(frames):
    """Yield the rows with their answers beside them."""
    for frame in frames:
        found = model()(frame["text"])
        labels, chances = [one.label for one in found], [one.probability for one in found]
        yield frame.assign(label=labels, probability=chances)


if __name__ == "__main__":
    import spark  # this file by its name: what Spark's processes import keeps its cache

    session = SparkSession.builder.appName("reelsense").getOrCreate()
    session.sparkContext.addPyFile(__file__)
    reviews = session.read.parquet(sys.argv[1])
    columns = StructType(list(reviews.schema)).add("label", "string").add("probability", "double")
    reviews.mapInPandas(spark.score, columns).write.parquet(sys.argv[2])
