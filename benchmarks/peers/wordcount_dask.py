"""Dask bag's own word count, on two processes: python wordcount_dask.py INPUT OUTPUT."""

import os
import sys

import dask
import dask.bag


def line(pair: tuple[str, int]) -> str:
    return f"{pair[0]}\t{pair[1]}"


if __name__ == "__main__":
    source, output = sys.argv[1:]
    dask.config.set(scheduler="processes", num_workers=2)
    words = dask.bag.read_text(source, blocksize="32MiB").str.split().flatten()
    lines = words.frequencies().map(line)
    lines.to_textfiles(os.path.join(output, "part-*"), last_endline=True)
