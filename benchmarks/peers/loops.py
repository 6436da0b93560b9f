"""What one would write by hand: python loops.py WORK INPUT OUTPUT.

The mappers are those of the jobs in ../jobs, word for word. All but "wordcount-twice" run in one
process; that one is the same loop in two processes, each on half of the file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from multiprocessing import Pool


def words(offset: int, line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


def distinct_words(offset: int, line: str) -> Iterator[tuple[str, int]]:
    for word in set(line.split()):
        yield word, offset


def count(lines: Iterable[str], offset: int = 0) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line in lines:
        for word, one in words(offset, line):
            counts[word] = counts.get(word, 0) + one
        offset += len(line)
    return counts


def write_counts(counts: dict[str, int], output: str) -> None:
    with open(output, "w", encoding="utf-8") as file:
        for word in sorted(counts):
            file.write(f"{word}\t{counts[word]}\n")


def wordcount(source: str, output: str) -> None:
    with open(source, encoding="utf-8") as file:
        counts = count(file)
    write_counts(counts, output)


def lines_between(source: str, start: int, end: int) -> Iterator[str]:
    with open(source, "rb") as file:
        if start:
            file.seek(start - 1)
            start += len(file.readline()) - 1
        for line in file:
            if start >= end:
                return
            yield line.decode()
            start += len(line)


def count_between(source: str, start: int, end: int) -> dict[str, int]:
    return count(lines_between(source, start, end), start)


def wordcount_twice(source: str, output: str) -> None:
    size = os.path.getsize(source)
    halves = [(source, 0, size // 2), (source, size // 2, size)]
    with Pool(2) as pool:
        counts, others = pool.starmap(count_between, halves)
    for word, ones in others.items():
        counts[word] = counts.get(word, 0) + ones
    write_counts(counts, output)


def index(source: str, output: str) -> None:
    found: dict[str, list[int]] = {}
    offset = 0
    with open(source, encoding="utf-8") as file:
        for line in file:
            for word, place in distinct_words(offset, line):
                if word in found:
                    found[word].append(place)
                else:
                    found[word] = [place]
            offset += len(line)
    with open(output, "w", encoding="utf-8") as file:
        for word in sorted(found):
            file.write(f"{word}\t{' '.join(map(str, found[word]))}\n")


def sort(source: str, output: str) -> None:
    with open(source, encoding="utf-8") as file:
        lines = file.readlines()
    lines.sort()
    with open(output, "w", encoding="utf-8") as file:
        file.writelines(lines)


if __name__ == "__main__":
    works = {
        "wordcount": wordcount,
        "wordcount-twice": wordcount_twice,
        "index": index,
        "sort": sort,
    }
    works[sys.argv[1]](*sys.argv[2:])
