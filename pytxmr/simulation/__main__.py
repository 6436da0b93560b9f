"""``python -m pytxmr.simulation``: run seeds, many or one, and say which of them fail."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from twisted.logger import globalLogBeginner

from pytxmr.simulation.runs import Result, Runs, scratch
from pytxmr.simulation.scenario import Scenario
from pytxmr.simulation.shrink import fewest

_DESCRIPTION = """\
Simulate whole clusters in one process: the real jobtracker and tasktrackers, over an in-memory
network and a virtual clock. Each seed says which cluster, which jobs, and what goes wrong when:
machines that crash or stop, networks that part, bytes that change, disks that fill, workers that
die. Every job has to end as a serial run of it does, or to fail for a reason; nothing may be left.

A seed always runs the same, on the same version of pytxmr and of what it needs. One that fails is
cut down to the fewest faults that make it fail, and the command that runs just these is printed.
"""
_EXAMPLES = """\
examples:
  python -m pytxmr.simulation --seeds 0:10000 --jobs 2     run ten thousand, two at a time
  python -m pytxmr.simulation --seed 4711 --trace          show what happens, with virtual times
  python -m pytxmr.simulation --seed 4711 --faults 0,3     the same, with two of its faults only
  python -m pytxmr.simulation --seed 4711 --faults none    the same, undisturbed

exit status: 0 if every promise was kept, 1 if not, 2 if the command line is wrong
"""
#: Seeds that a process is given at a time.
_PORTION = 25


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    if options.seed is not None:
        return _one(options.seed, options.faults, options.trace)
    return _many(options.seeds, options.jobs)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pytxmr.simulation",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seeds", type=_range, metavar="A:B", help="run the seeds from A up to B")
    which.add_argument("--seed", type=int, metavar="N", help="run one seed")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="with --seeds: as many processes"
    )
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happens")
    parser.add_argument(
        "--faults",
        type=_numbers,
        metavar="N,...",
        help="with --seed: only the faults with these numbers, or none",
    )
    options = parser.parse_args(arguments)
    if options.seed is None and (options.trace or options.faults is not None):
        parser.error("--trace and --faults go with --seed")
    if options.jobs < 1:
        parser.error("--jobs has to be 1 or more")
    if options.seed is not None and options.faults is not None:
        there = len(Scenario.of(options.seed).faults)
        if any(number not in range(there) for number in options.faults):
            parser.error(f"--faults: seed {options.seed} has {there}, numbered from 0")
    return options


def _range(text: str) -> range:
    first, colon, last = text.partition(":")
    if not colon:
        raise ValueError(text)
    return range(int(first), int(last))


def _numbers(text: str) -> list[int]:
    return [] if text == "none" else [int(number) for number in text.split(",")]


def _one(seed: int, only: list[int] | None, trace: bool) -> int:
    with scratch() as runs:
        result = runs.run(seed, only, print if trace else None)
        if not trace:
            print(f"seed {seed}: {_cluster(seed)}")
            for number, fault in enumerate(Scenario.of(seed).faults):
                if only is None or number in only:
                    print(f"  fault {number}: {fault}")
        if not result.violations:
            jobs = ", ".join(f"{n} {outcome}" for outcome, n in sorted(result.outcomes.items()))
            print(f"seed {seed} is fine: {jobs}, {result.virtual_seconds:.0f} virtual seconds")
            return 0
        _explain(runs, result, only)
        return 1


def _cluster(seed: int) -> str:
    scenario = Scenario.of(seed)
    jobs = "; ".join(
        f"{kind.source}, {kind.maps} maps, {kind.reducers} reducers" for kind in scenario.jobs
    )
    return f"{len(scenario.workers)} trackers; {jobs}"


def _explain(runs: Runs, result: Result, only: list[int] | None = None) -> None:
    """Show what was violated, and with how few of the faults it still is."""
    print(f"seed {result.seed} FAILS ({_cluster(result.seed)})")
    for text in result.violations[:3]:
        print(f"  {text[:3000]}")
    faults = Scenario.of(result.seed).faults
    numbers = range(len(faults)) if only is None else only
    left = fewest(numbers, lambda some: bool(runs.run(result.seed, some).violations))
    print(f"  {len(left)} of {len(faults)} faults make it fail:")
    for number in left:
        print(f"    fault {number}: {faults[number]}")
    listed = ",".join(map(str, left)) or "none"
    print(
        f"  replay: python -m pytxmr.simulation --seed {result.seed} --faults {listed} --trace",
        flush=True,
    )


def _portion(seeds: range) -> list[Result]:
    with scratch() as runs:
        return [runs.run(seed) for seed in seeds]


def _many(seeds: range, jobs: int) -> int:
    portions = [seeds[start : start + _PORTION] for start in range(0, len(seeds), _PORTION)]
    began = shown = time.monotonic()
    done, virtual = 0, 0.0
    failed: list[Result] = []
    faults: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for results in _in_processes(portions, jobs):
        for result in results:
            done += 1
            virtual += result.virtual_seconds
            faults += result.faults
            outcomes += result.outcomes
            if result.violations:
                failed.append(result)
                print(f"seed {result.seed} FAILS: {result.violations[0][:300]}", flush=True)
        now = time.monotonic()
        if now - shown > 10.0:
            shown = now
            print(f"{done} of {len(seeds)} seeds, {len(failed)} failed, {now - began:.0f} s")
            sys.stdout.flush()
    seconds = time.monotonic() - began
    if failed:
        with scratch() as runs:
            for result in failed[:5]:
                _explain(runs, result)
    print(f"{done} seeds, {len(failed)} failed, in {seconds:.0f} s ({virtual:.0f} virtual seconds)")
    print("jobs:   " + ", ".join(f"{n} {name}" for name, n in outcomes.most_common()))
    print("faults: " + ", ".join(f"{n} {name}" for name, n in faults.most_common()))
    return 1 if failed else 0


def _in_processes(portions: list[range], jobs: int) -> Iterator[list[Result]]:
    if jobs == 1:
        yield from map(_portion, portions)
        return
    with multiprocessing.get_context("fork").Pool(min(jobs, os.cpu_count() or 1)) as pool:
        yield from pool.imap_unordered(_portion, portions)


if __name__ == "__main__":
    sys.exit(main())
