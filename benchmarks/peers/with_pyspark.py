"""PySpark's RDDs on two threads: python with_pyspark.py WORK INPUT... OUTPUT."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from operator import add
from os.path import getsize
from typing import Any

from pyspark import SparkConf, SparkContext

PARTITIONS = 2


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


def wordcount(spark: SparkContext, source: str, output: str) -> None:
    counts = spark.textFile(source).flatMap(words).reduceByKey(add, PARTITIONS)
    counts.map(lambda pair: f"{pair[0]}\t{pair[1]}").saveAsTextFile(output)


def sort(spark: SparkContext, source: str, output: str) -> None:
    pairs = spark.textFile(source).map(lambda line: (line, None))
    pairs.sortByKey(numPartitions=PARTITIONS).keys().saveAsTextFile(output)


def index(spark: SparkContext, source: str, output: str) -> None:
    # Hadoop's own text format gives each line with its offset in the file, as a mapper gets it.
    records = spark.newAPIHadoopFile(
        source,
        "org.apache.hadoop.mapreduce.lib.input.TextInputFormat",
        "org.apache.hadoop.io.LongWritable",
        "org.apache.hadoop.io.Text",
        # A split for each thread.
        conf={"mapreduce.input.fileinputformat.split.maxsize": str(getsize(source) // 2 + 1)},
    )

    def distinct_words(record: tuple[int, str]) -> Iterable[tuple[str, int]]:
        offset, line = record
        return [(word, offset) for word in set(line.split())]

    # Values come in no order; the index wants them ascending.
    groups = records.flatMap(distinct_words).groupByKey(PARTITIONS)
    groups.map(lambda pair: f"{pair[0]}\t{' '.join(map(str, sorted(pair[1])))}").saveAsTextFile(
        output
    )


def join(spark: SparkContext, left: str, right: str, output: str) -> None:
    def pair(line: str) -> tuple[str, str]:
        _, key, payload = line.split("\t")
        return key, payload

    joined = spark.textFile(left).map(pair).join(spark.textFile(right).map(pair), PARTITIONS)
    joined.map(lambda row: f"{row[0]}\t{row[1][0]}\t{row[1][1]}").saveAsTextFile(output)


WORKS: dict[str, Callable[..., Any]] = {
    "wordcount": wordcount,
    "sort": sort,
    "index": index,
    "join": join,
}

if __name__ == "__main__":
    configuration = SparkConf().setMaster("local[2]").setAppName("benchmark")
    configuration.set("spark.driver.memory", "4g").set("spark.ui.enabled", "false")
    configuration.set("spark.ui.showConsoleProgress", "false")
    with SparkContext(conf=configuration) as context:
        WORKS[sys.argv[1]](context, *sys.argv[2:])
