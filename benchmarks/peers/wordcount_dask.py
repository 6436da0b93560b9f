"""Word count by Dask bag, on two processes: python wordcount_dask.py WORK INPUT OUTPUT.

"mapper": the mapper of the other peers, a generator, and `foldby`, which sums before and after the
shuffle. "frequencies": Dask's own word count, which has no mapper and counts in C.
"""

import os
import sys
from collections.abc import Iterator
from operator import itemgetter

import dask
import dask.bag
from dask.bag import Bag


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


def add_pair(total: int, pair: tuple[str, int]) -> int:
    return total + pair[1]


def add(total: int, other: int) -> int:
    return total + other


def line(pair: tuple[str, int]) -> str:
    return f"{pair[0]}\t{pair[1]}"


def mapper(lines: Bag) -> Bag:
    return lines.map(words).flatten().foldby(itemgetter(0), add_pair, 0, add, 0)


def frequencies(lines: Bag) -> Bag:
    return lines.str.split().flatten().frequencies()


if __name__ == "__main__":
    work, source, output = sys.argv[1:]
    dask.config.set(scheduler="processes", num_workers=2)
    text = dask.bag.read_text(source, blocksize="32MiB")
    counts = {"mapper": mapper, "frequencies": frequencies}[work](text)
    counts.map(line).to_textfiles(os.path.join(output, "part-*"), last_endline=True)
