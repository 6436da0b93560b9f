"""Where word count spends its time: word_cost.py TEXT DIRECTORY.

Takes each step over the first 25 MB of a text, in one process and in two at once, and prints as
JSON the nanoseconds that it costs a word: the user's mapper alone, the hand-written loop around it,
the mapper with what pytxmr gathers its pairs in, and a whole map attempt, from the file to the
spill. Of several turns the fastest counts, as what
other programs do to a turn can only make it longer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, starmap
from multiprocessing import Barrier, Process, Queue
from typing import Any

from pytxmr import folds
from pytxmr.model import FileRange, InputSplit, JobFunctions
from pytxmr.records.gather import Folded
from pytxmr.records.mapping import run_map
from pytxmr.records.partition import stable_partition

BYTES = 25_000_000
TURNS = 5
MEMORY_BYTES = 100 << 20


def words(offset: int, line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


def lines(text: str) -> Iterator[tuple[int, str]]:
    offset = 0
    with open(text, encoding="utf-8") as file:
        for line in file:
            yield offset, line
            offset += len(line)
            if offset >= BYTES:
                return


def mapper(text: str, directory: str) -> None:
    deque(chain.from_iterable(starmap(words, lines(text))), maxlen=0)


def loop(text: str, directory: str) -> None:
    counts: dict[str, int] = {}
    for offset, line in lines(text):
        for word, one in words(offset, line):
            counts[word] = counts.get(word, 0) + one


def gathered(text: str, directory: str) -> None:
    Folded(folds.sum).take(chain.from_iterable(starmap(words, lines(text))))


def attempt(text: str, directory: str) -> None:
    functions = JobFunctions(words, folds.sum, folds.sum, stable_partition, None, None)
    split = InputSplit((FileRange(text, 0, BYTES),))
    path = os.path.join(directory, f"spill{os.getpid()}")
    run_map(functions, split, path, 2, MEMORY_BYTES, lambda done: None)


STEPS: dict[str, Callable[[str, str], None]] = {
    "mapper": mapper,
    "loop": loop,
    "gathered": gathered,
    "attempt": attempt,
}


def take_turns(barrier: Any, results: Any, text: str, directory: str) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in STEPS}
    for _ in range(TURNS):
        for name, step in STEPS.items():
            barrier.wait()
            began = time.perf_counter()
            step(text, directory)
            seconds[name].append(time.perf_counter() - began)
    results.put(seconds)


def measure(processes: int, text: str, directory: str) -> dict[str, float]:
    """The fewest nanoseconds a word of each step, with so many processes at once."""
    barrier, results = Barrier(processes), Queue()
    arguments = (barrier, results, text, directory)
    running = [Process(target=take_turns, args=arguments) for _ in range(processes)]
    for process in running:
        process.start()
    found = [results.get() for _ in running]
    for process in running:
        process.join()
    count = sum(len(line.split()) for _, line in lines(text))
    return {
        name: 1e9 * min(chain.from_iterable(seconds[name] for seconds in found)) / count
        for name in STEPS
    }


if __name__ == "__main__":
    print(json.dumps({"alone": measure(1, *sys.argv[1:]), "together": measure(2, *sys.argv[1:])}))
