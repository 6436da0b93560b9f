"""What one would write by hand, for one process: python loops.py WORK INPUT OUTPUT.

The mappers are those of the jobs in ../jobs, word for word.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator


def words(offset: int, line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


def distinct_words(offset: int, line: str) -> Iterator[tuple[str, int]]:
    for word in set(line.split()):
        yield word, offset


def wordcount(source: str, output: str) -> None:
    counts: dict[str, int] = {}
    offset = 0
    with open(source, encoding="utf-8") as file:
        for line in file:
            for word, one in words(offset, line):
                counts[word] = counts.get(word, 0) + one
            offset += len(line)
    with open(output, "w", encoding="utf-8") as file:
        for word in sorted(counts):
            file.write(f"{word}\t{counts[word]}\n")


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
    {"wordcount": wordcount, "index": index, "sort": sort}[sys.argv[1]](*sys.argv[2:])
