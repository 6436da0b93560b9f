"""Word count of 100 MB: `pytxmr run` on two workers against a plain loop over the same mapper.

Whole command against whole command: start-up, reading, counting, and the output on disk, in turn.
Prints both medians and the median of the ratios, pair by pair; checks that both outputs agree.

    python benchmarks/wordcount_vs_loop.py [--megabytes N] [--runs N] [--workers N]

The text is made from a seed: words of a vocabulary of 50,000, drawn by Zipf's law (s = 1.07),
twelve a line, as natural text roughly is.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import statistics
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "wordcount.py"

LOOP = """
import runpy, sys
mapper = runpy.run_path(sys.argv[1])["mapper"]
counts = {}
offset = 0
with open(sys.argv[2], encoding="utf-8") as file:
    for line in file:
        for word, one in mapper(offset, line):
            counts[word] = counts.get(word, 0) + one
        offset += len(line)
with open(sys.argv[3], "w", encoding="utf-8") as file:
    for word in sorted(counts):
        file.write(f"{word}\\t{counts[word]}\\n")
"""


def make_text(path: Path, size: int) -> None:
    """Write about ``size`` bytes of Zipf-distributed words, the same for every run."""
    chance = random.Random(20260101)
    words = list(
        {
            "".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 11)))
            for _ in range(50_000)
        }
    )
    words.sort()
    chance.shuffle(words)
    weights = list(itertools.accumulate(1 / rank**1.07 for rank in range(1, len(words) + 1)))
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            drawn = chance.choices(words, cum_weights=weights, k=120_000)
            lines = (" ".join(drawn[at : at + 12]) for at in range(0, len(drawn), 12))
            file.write("\n".join(lines) + "\n")


def timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pytxmr-bench-") as name:
        place = Path(name)
        text, counted, output = place / "text", place / "counted", place / "out"
        make_text(text, options.megabytes * 1_000_000)
        loop = [sys.executable, "-c", LOOP, str(EXAMPLE), str(text), str(counted)]
        run = [sys.executable, "-m", "pytxmr", "run", str(EXAMPLE), str(text)]
        run += ["--output", str(output), "--workers", str(options.workers)]
        ours, theirs = [], []
        for number in range(options.runs):
            shutil.rmtree(output, ignore_errors=True)
            theirs.append(timed(loop))
            ours.append(timed(run))
            print(f"run {number + 1}: loop {theirs[-1]:.2f} s, pytxmr {ours[-1]:.2f} s", flush=True)
        found = sorted(
            line for part in output.glob("part-*") for line in part.read_bytes().splitlines()
        )
        if found != sorted(counted.read_bytes().splitlines()):
            print("the outputs differ", file=sys.stderr)
            return 1
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        print(f"{text.stat().st_size:,} bytes, {options.workers} workers, outputs agree")
        print(f"loop    {statistics.median(theirs):6.2f} s (median of {options.runs})")
        print(f"pytxmr  {statistics.median(ours):6.2f} s")
        print(f"ratio   {ratio:6.2f}   (below 1: pytxmr is faster)")
        return 0 if ratio < 1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
