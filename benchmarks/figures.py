"""Rows that are more than two commands raced against each other."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import EXAMPLES, PROBES, WORKERS, Bench
from benchmarks.cluster import AnswerWatch, Cluster, MemoryWatch
from benchmarks.environments import ALONE
from benchmarks.inputs import LINE_BYTES, MEGABYTE, warm
from benchmarks.measure import (
    Command,
    Failed,
    Measured,
    any_order,
    end_group,
    parts,
    race,
    ratio,
    remove,
    report_run,
    run_ours,
)

EMPTY_MAPS = 2000
PROSE = EXAMPLES / "data" / "warandpeace.txt"
SHUFFLED_MEGABYTES = 512
VALUES_OF_ONE_KEY = 20_000_000
VALUES_PER_LINE = 10_000
MEMORY = ("--memory", "128M")


def standing_cluster(bench: Bench, runs: int) -> Measured:
    """Latency of a small job that a connected client submits; and the same by `pytxmr run`."""
    text = bench.inputs.small_text()
    with Cluster(bench, trackers=1, workers=WORKERS) as cluster:
        outputs = bench.runner.path("outputs")
        outputs.mkdir()
        job = bench.run_words("wordcount")[-1]
        probe = bench.probe("standing", cluster.endpoint, cluster.secret, job, text, outputs)
        said = _probed(bench, probe)
        command = cluster.run("wordcount", text)
        whole = []
        for number in range(runs):
            whole.append(run_ours(bench.runner, command)[0])
            report_run(number, runs, whole[-1])
    remove(outputs)
    return Measured(
        median(said["jobs"]),
        said["jobs"],
        said["pings"],
        notes=[f"the whole command, `pytxmr run --jobtracker`: {median(whole):.2f} s"],
        raw={"commands": whole},
    )


def empty_maps(bench: Bench, runs: int) -> Measured:
    """Map tasks a second, by the job's own time: from submission to commit, start-up left out."""
    lines = bench.inputs.numbered_lines(EMPTY_MAPS)
    size = lines.stat().st_size // EMPTY_MAPS
    command = bench.pytxmr("empty", lines, "--split-size", str(size))
    seconds, whole = [], []
    for number in range(runs):
        spent, said = run_ours(bench.runner, command)
        whole.append(spent)
        found = re.search(r"succeeded in ([0-9.]+) s: ([0-9]+) maps", said)
        if found is None or int(found[2]) != EMPTY_MAPS:
            raise Failed(f"not the summary of {EMPTY_MAPS} maps: {said[:200]!r}")
        seconds.append(float(found[1]))
        report_run(number, runs, seconds[-1])
    return Measured(
        EMPTY_MAPS / median(seconds),
        seconds,
        notes=[
            f"by the job's own time, submission to commit; the whole command takes "
            f"{median(whole):.2f} s"
        ],
        raw={"commands": whole},
    )


def word_cost(bench: Bench, runs: int) -> Measured:
    """Why word count takes what it takes: what each of its steps costs a word."""
    text = bench.inputs.text(200)
    warm(text)
    directory = bench.runner.path("words")
    directory.mkdir()
    said = _probed(bench, bench.probe("word_cost", text, directory))
    remove(directory)
    small = _medium(bench, bench.inputs.small_text(), min(runs, 3))
    notes = [
        f"{which}: the mapper {costs['mapper']:.0f} ns a word, the loop {costs['loop']:.0f} ns, "
        f"the mapper with what pytxmr gathers pairs in {costs['gathered']:.0f} ns, a map attempt "
        f"from file to spill {costs['attempt']:.0f} ns"
        for which, costs in (
            ("one process alone", said["alone"]),
            ("two at once", said["together"]),
        )
    ]
    # Two workers, half of the words each.
    words = 25e6 * bench.scale
    floor = words / 2 * said["together"]["attempt"] / 1e9 + small
    loop = words * said["alone"]["loop"] / 1e9
    notes.append(
        f"so 25 M words on two workers take {floor:.2f} s with the {small:.2f} s of a 1 KB job, "
        f"and the loop {loop:.2f} s: a ratio of {floor / loop:.2f}, to which come sorting, "
        f"spilling and merging of the other splits and what one worker waits for the other"
    )
    costs = said["together"]
    return Measured(
        costs["attempt"] / costs["loop"],
        [costs["attempt"] / 1e9],
        [costs["loop"] / 1e9],
        notes=notes,
        raw=said,
    )


def codec(name: str) -> Callable[[Bench, int], Measured]:
    """The index with what maps put out compressed, against the same without; and what it takes for
    a codec to pay."""

    def measure(bench: Bench, runs: int) -> Measured:
        text, lines = bench.inputs.text(50), bench.inputs.lines(200_000)
        warm(text)
        plain = bench.pytxmr("index", text, output="reference")
        squeezed = bench.pytxmr("index", text, "--codec", name)
        raced = race(bench.runner, squeezed, plain, runs, any_order)
        directory = bench.runner.path("codecs")
        directory.mkdir()
        said = _probed(bench, bench.probe("codecs", directory, text, lines, PROSE))
        remove(directory)
        notes = []
        for what, costs in said.items():
            its = costs[name]
            note = (
                f"a byte of {what} costs {costs['pack']:.2g} ns to pack and unpack, "
                f"{costs['xxh3']:.2g} ns each time it is checked (by CRC-32 {costs['crc32']:.2g}), "
                f"and {its['ns']:.2g} ns by {name}, which leaves {100 * its['left']:.0f} % of it"
            )
            if its["left"] < 0.99:
                most = 1000 * (1 - its["left"]) / its["ns"]
                note += f": that pays on a disk or network of less than {most:.0f} MB/s"
            notes.append(note)
        return replace(raced, notes=notes, raw=said)

    return measure


#: What a virtual environment comes with.
_OF_PIP = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")


def installed_size(bench: Bench, runs: int) -> Measured:
    """Megabytes that pytxmr and all that it needs take, without extras and without pip."""
    python = bench.environments.python(ALONE)
    began = time.perf_counter()
    (packages,) = (python.parent.parent / "lib").glob("python*/site-packages")
    sizes: dict[str, int] = {}
    for path in packages.iterdir():
        if path.name.startswith(_OF_PIP):
            continue
        files = path.rglob("*") if path.is_dir() else [path]
        sizes[path.name] = sum(file.stat().st_blocks * 512 for file in files if file.is_file())
    largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:4]
    told = ", ".join(f"{name} {sizes[name] / MEGABYTE:.1f}" for name in largest)
    return Measured(
        sum(sizes.values()) / MEGABYTE,
        [time.perf_counter() - began],
        notes=[f"MB on disk, with the compiled form of modules: {told}"],
        raw={"bytes": sizes},
    )


def shuffle(bench: Bench, runs: int) -> Measured:
    """A KeyValueStore's port and `Fetcher`, against a producer and a receiver of a few lines.

    Senders and receivers are processes of their own; receivers write what arrives to a file.
    """
    size = max(1, round(SHUFFLED_MEGABYTES * MEGABYTE * bench.scale))
    ours: list[float] = []
    reference: list[float] = []
    with _sending(bench, "shuffle", size) as (directory, spills, bare):
        for number in range(runs):
            for port, side, seconds in (("bare", bare, reference), ("spills", spills, ours)):
                seconds.append(_received(bench, port, side, directory))
            report_run(number, runs, ours[-1], reference[-1])
    return Measured(
        ratio(ours, reference),
        ours,
        reference,
        notes=[
            f"seconds a byte of {size / MEGABYTE:.0f} MB in 8 map outputs: "
            f"{1e-6 / median(ours):.0f} MB/s against {1e-6 / median(reference):.0f} MB/s"
        ],
    )


@contextmanager
def _sending(bench: Bench, name: str, size: int, *sizes: str) -> Iterator[tuple[Path, str, str]]:
    """A process that serves spills meanwhile: its directory and its two ports."""
    directory = bench.runner.path(name)
    directory.mkdir()
    sender = subprocess.Popen(
        [bench.python, PROBES / "send_spills.py", directory, str(size), *sizes],
        env=bench.runner.environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert sender.stdout is not None
        announced = sender.stdout.readline()
        if not announced:
            raise Failed("the sender of spills does not start")
        spills, bare = announced.decode().split()
        yield directory, spills, bare
    finally:
        end_group(sender)
        remove(directory)


def _received(bench: Bench, kind: str, port: str, directory: Path, *sizes: str) -> float:
    """Seconds a byte."""
    said = _probed(bench, bench.probe("receive_spills", kind, port, directory, *sizes))
    seconds: float = said["seconds"] / said["bytes"]
    return seconds


#: Sizes that the shuffle might have instead of its own; ``socket`` it leaves to the system.
OTHER_SIZES = tuple(
    f"{name}={kibibytes << 10}"
    for name, several in (("chunk", (32, 512)), ("read", (64, 1024)), ("socket", (256, 4096)))
    for kibibytes in several
)


def shuffle_sizes(bench: Bench, runs: int) -> Measured:
    """The shuffle with its own sizes against the best of others, each changed alone."""
    size = max(1, round(SHUFFLED_MEGABYTES * MEGABYTE * bench.scale / 4))
    found: dict[str, list[float]] = {}
    with ExitStack() as senders:
        ready = []
        for sizes in ((), *((one,) for one in OTHER_SIZES)):
            name = "-".join(("shuffle", *sizes))
            directory, port, _ = senders.enter_context(_sending(bench, name, size, *sizes))
            ready.append((sizes, directory, port))
        for number in range(runs):
            for sizes, directory, port in ready:
                seconds = _received(bench, "spills", port, directory, *sizes)
                found.setdefault("".join(sizes) or "its own", []).append(seconds)
            ready = ready[1:] + ready[:1]  # none of them is always the first of a turn
            report_run(number, runs, found["its own"][-1])
    own = found.pop("its own")
    best = min(found.values(), key=median)
    told = ", ".join(f"{name} {1e-6 / median(each):.0f}" for name, each in found.items())
    return Measured(
        ratio(own, best),
        own,
        best,
        notes=[f"MB/s by its own sizes {1e-6 / median(own):.0f}; with {told}"],
        raw=dict(found),
    )


def flat_cost(bench: Bench, runs: int) -> Measured:
    """Seconds a word at three sizes, beyond what a 1 KB job takes, which is the fixed cost."""
    fixed = _medium(bench, bench.inputs.small_text(), min(runs, 3))
    costs: dict[int, float] = {}
    for megabytes, most in ((100, 3), (400, 3), (2000, 1)):
        text = bench.inputs.text(megabytes)
        warm(text)
        seconds = _medium(bench, text, min(runs, most))
        costs[megabytes] = (seconds - fixed) / text.stat().st_size
    drift = max(costs[400], costs[2000]) / costs[100] - 1
    return Measured(
        100 * drift,
        list(costs.values()),
        notes=[
            "seconds per MB beyond those of a 1 KB job: "
            + ", ".join(f"{cost * MEGABYTE:.4f} at {size} MB" for size, cost in costs.items())
        ],
        raw={"fixed": fixed},
    )


def _medium(bench: Bench, text: Path, runs: int) -> float:
    command = bench.pytxmr("wordcount", text)
    seconds = []
    for number in range(runs):
        seconds.append(run_ours(bench.runner, command)[0])
        report_run(number, runs, seconds[-1])
    return median(seconds)


def memory_of_shuffle(bench: Bench, runs: int) -> Measured:
    """2 GB of distinct lines sorted on a cluster of two trackers; half of it crosses."""
    lines = bench.inputs.lines(2000 * MEGABYTE // LINE_BYTES)
    return _watched(bench, lambda output: _check_sorted(lines, output), "sort", lines)


def answers_of_trackers(bench: Bench, runs: int) -> Measured:
    """The slowest answer of a tracker's port while 2 GB are sorted as in `memory_of_shuffle`."""
    lines = bench.inputs.lines(2000 * MEGABYTE // LINE_BYTES)
    with Cluster(bench, trackers=2, workers=1) as cluster:
        command = cluster.run("sort", lines, *MEMORY)
        with AnswerWatch(cluster.ports) as watch:
            report_run(0, 1, run_ours(bench.runner, command)[0])
    assert command.output is not None
    _check_sorted(lines, command.output)
    remove(command.output)
    if not all(watch.seconds.values()):
        raise Failed("a tracker's port does not answer")
    seconds = sorted(chain.from_iterable(watch.seconds.values()))
    middle, late = (1000 * seconds[len(seconds) * part // 1000] for part in (500, 999))
    return Measured(
        1000 * seconds[-1],
        seconds,
        notes=[
            f"{len(seconds)} answers: half within {middle:.2g} ms, 99.9 % within {late:.3g} ms; "
            f"two workers, two trackers and what asks share the machine's processors"
        ],
    )


def memory_of_one_key(bench: Bench, runs: int) -> Measured:
    count = max(1, round(VALUES_OF_ONE_KEY // VALUES_PER_LINE * bench.scale))
    values = count * VALUES_PER_LINE

    def check(output: Path) -> None:
        found = b"".join(path.read_bytes() for path in parts(output)).split()
        if list(map(int, found)) != [values, values * (values - 1) // 2]:
            raise Failed(f"{found[:3]} is not the count and the sum of {values} values")

    numbers = bench.inputs.numbered_lines(count)
    return _watched(bench, check, "one_key", numbers, "-D", f"values={VALUES_PER_LINE}")


def _watched(bench: Bench, check: Any, job: str, *words: str | Path) -> Measured:
    """Run a job on a cluster of two trackers of one worker each, and watch their memory."""
    with Cluster(bench, trackers=2, workers=1) as cluster:
        roots = {name: process.pid for name, process in cluster.processes.items()}
        command = cluster.run(job, *words, *MEMORY)
        with MemoryWatch(roots) as watch:
            seconds = run_ours(bench.runner, command)[0]
        report_run(0, 1, seconds)
    assert command.output is not None
    check(command.output)
    remove(command.output)
    peaks = watch.peaks()
    if "worker" not in peaks:
        raise Failed("no worker process was seen")
    told = ", ".join(f"{name} {peak:.0f}" for name, peak in sorted(peaks.items()))
    return Measured(
        max(peaks.values()),
        [seconds],
        notes=[f"peak resident memory in MiB, on two trackers of one worker each: {told}"],
        raw={"peaks": peaks},
    )


def _check_sorted(lines: Path, output: Path) -> None:
    size, ordered = _sorted_bytes(output)
    if size != lines.stat().st_size or not ordered:
        raise Failed("the output is not the input in order")


def _sorted_bytes(output: Path) -> tuple[int, bool]:
    size, ordered, last = 0, True, b""
    for path in parts(output):
        with path.open("rb") as file:
            while lines := file.readlines(1 << 24):
                size += sum(map(len, lines))
                ordered = ordered and last <= lines[0] and lines == sorted(lines)
                last = lines[-1]
    return size, ordered


def _probed(bench: Bench, probe: Command) -> dict[str, Any]:
    _, said = run_ours(bench.runner, probe)
    found: dict[str, Any] = json.loads(said)
    return found
