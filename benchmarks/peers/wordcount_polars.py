"""Word count by Polars' streaming engine: python wordcount_polars.py INPUT OUTPUT."""

import sys

import polars as pl

if __name__ == "__main__":
    source, output = sys.argv[1:]
    words = pl.scan_lines(source, name="line").select(
        pl.col("line").str.split(" ").explode().alias("word")
    )
    counts = words.group_by("word").len()
    counts.sink_csv(output, separator="\t", include_header=False, engine="streaming")
