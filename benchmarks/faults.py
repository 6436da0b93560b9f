"""What a fault costs: word count on three trackers, disturbed and not, by turns.

A turn begins with an undisturbed run, each run has a cluster of its own, and the fault comes when
half of the time of the turn's undisturbed run has passed. Clusters start and end untimed.

And what it costs to be ready for faults: the same undisturbed, by pytxmr as it was before.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.cluster import Cluster
from benchmarks.environments import BEFORE_FAULTS
from benchmarks.inputs import warm
from benchmarks.measure import (
    Failed,
    Measured,
    any_order,
    end_group,
    ratio,
    remove,
    report_run,
    run_ours,
)

TRACKERS = 3
#: Of each such time a tracker that is slowed tenfold runs for a tenth.
_SLICE_SECONDS = 0.05
_SLOWED = 10
_TURNS = 2

#: Disturbs a cluster while it is entered, given the seconds of an undisturbed run.
Fault = Callable[[Cluster, float], AbstractContextManager[None]]


def disturbed(fault: Fault, *options: str) -> Callable[[Bench, int], Measured]:
    """A row: the time with the fault, as a ratio to that without."""

    def measure(bench: Bench, runs: int) -> Measured:
        text = bench.inputs.text(200)
        warm(text)
        ours: list[float] = []
        reference: list[float] = []
        for number in range(runs):
            reference.append(_run(bench, text, "reference"))
            ours.append(_run(bench, text, "ours", lambda c: fault(c, reference[-1]), *options))
            report_run(number, runs, ours[-1], reference[-1])
            _compare(bench)
        return Measured(ratio(ours, reference), ours, reference)

    return measure


def undisturbed(on_cluster: bool) -> Callable[[Bench, int], Measured]:
    """A row: the time of a run that no fault disturbs, as a ratio to that of `BEFORE_FAULTS`.

    The difference is smaller than what single runs differ by, so there are two turns for each
    that is asked for, and the sides take turns at being first.
    """

    def measure(bench: Bench, runs: int) -> Measured:
        text = bench.inputs.text(200)
        warm(text)
        sides = {"reference": replace(bench, ours=BEFORE_FAULTS), "ours": bench}
        seconds: dict[str, list[float]] = {"reference": [], "ours": []}
        for number in range(_TURNS * runs):
            for side in sorted(sides, reverse=number % 2 == 0):
                if on_cluster:
                    taken = _run(sides[side], text, side)
                else:
                    command = sides[side].pytxmr("wordcount", text, output=side)
                    taken = run_ours(bench.runner, command)[0]
                seconds[side].append(taken)
            ours, reference = seconds["ours"], seconds["reference"]
            report_run(number, _TURNS * runs, ours[-1], reference[-1])
            _compare(bench)
        return Measured(ratio(ours, reference), ours, reference)

    return measure


def _compare(bench: Bench) -> None:
    """Both sides' outputs are the same, and go."""
    outputs = [bench.runner.directory / name for name in ("reference", "ours")]
    if any_order(outputs[0]) != any_order(outputs[1]):
        raise Failed("the outputs differ")
    for output in outputs:
        remove(output)


def _run(
    bench: Bench,
    text: Path,
    output: str,
    disturb: Callable[[Cluster], AbstractContextManager[None]] | None = None,
    *options: str,
) -> float:
    with Cluster(bench, TRACKERS, workers=1) as cluster:
        command = cluster.run("wordcount", text, *options, output=output)
        if disturb is None:
            return run_ours(bench.runner, command)[0]
        with disturb(cluster):
            return run_ours(bench.runner, command)[0]


@contextmanager
def killed_tracker(cluster: Cluster, seconds: float) -> Iterator[None]:
    """``kill -9`` of one of the three trackers; it does not come back."""
    with _at(seconds / 2, lambda: end_group(cluster.processes["tracker2"], signal.SIGKILL)):
        yield


@contextmanager
def restarted_jobtracker(cluster: Cluster, seconds: float) -> Iterator[None]:
    """``kill -9`` of the jobtracker, which is started again at once, as a supervisor would."""
    with _at(seconds / 2, cluster.restart_jobtracker):
        yield


@contextmanager
def slow_tracker(cluster: Cluster, seconds: float) -> Iterator[None]:
    """One tracker with its workers is stopped for nine tenths of the time."""
    ended = threading.Event()
    thread = threading.Thread(target=_slow_down, args=(cluster.processes["tracker2"], ended))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _at(seconds: float, do: Callable[[], None]) -> Iterator[None]:
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            do()
        except BaseException as error:  # it is the benchmark's to tell, not the thread's
            failed.append(error)

    timer = threading.Timer(seconds, guarded)
    timer.start()
    try:
        yield
        if timer.is_alive() and not timer.finished.is_set():
            failed.append(Failed("the job ended before the fault came"))
    finally:
        timer.cancel()
        timer.join()
    if failed:
        raise failed[0]


def _slow_down(tracker: subprocess.Popen[bytes], ended: threading.Event) -> None:
    stopped: set[int] = set()
    while not ended.is_set():
        stopped = _signal({tracker.pid, *_below(tracker.pid)}, signal.SIGSTOP)
        ended.wait(_SLICE_SECONDS * (_SLOWED - 1))
        _signal(stopped, signal.SIGCONT)
        time.sleep(_SLICE_SECONDS)
    _signal(stopped, signal.SIGCONT)


def _signal(pids: set[int], number: signal.Signals) -> set[int]:
    """Those of the processes that were still there."""
    there = set()
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        there.add(pid)
    return there


def _below(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in children]
