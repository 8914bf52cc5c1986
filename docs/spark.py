"""Score the column `text` of Parquet files in Spark: `spark-submit docs/spark.py IN OUT`."""

import sys
from functools import cache


@cache
def model():  # once in each Python process of Spark, which runs many tasks
    import reelsense

    return reelsense.load(threads=1)  # Spark has a process for each core


def score(frames):
    for frame in frames:
        found = model()(frame["text"])
        yield frame.assign(
            label=[x.label for x in found], probability=[x.probability for x in found]
        )


if __name__ == "__main__":
    from pyspark.sql import SparkSession, types
    from spark import score  # this file as a module: a cache in __main__ does not travel

    session = SparkSession.builder.getOrCreate()
    session.sparkContext.addPyFile(__file__)
    reviews = session.read.parquet(sys.argv[1])
    columns = (
        types.StructType([*reviews.schema]).add("label", "string").add("probability", "double")
    )
    reviews.mapInPandas(score, columns).write.parquet(sys.argv[2])
