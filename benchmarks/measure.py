"""Running commands, taking their time, and comparing what they wrote."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.environments import CHECKOUT, Unavailable

#: A command that takes longer has failed.
MOST_SECONDS = 1200.0
_STOP_SECONDS = 10.0


class Failed(Exception):
    """A command of ours failed, or outputs differ: the benchmark has no result, but a bug."""


class CommandFailed(Exception):
    """The text is how it ended, and the last that it said."""


@dataclass(frozen=True)
class Command:
    """A command line, and the file or directory that it makes (None: nothing)."""

    words: Sequence[str | Path]
    output: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def child_environment(temporary: Path) -> dict[str, str]:
    """What every command gets: nothing of ours that would change what Python or pytxmr does."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYTXMR", "SPARK", "VIRTUAL_ENV", "MAKE"))
    }
    return kept | {"TMPDIR": str(temporary), "LC_ALL": "C.UTF-8"}


class Runner:
    """Runs commands in a directory of their own, which is emptied as it is opened and closed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._temporary = directory / "tmp"
        shutil.rmtree(directory, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self.environment = child_environment(self._temporary)

    def path(self, name: str) -> Path:
        """A path in the directory; what is there is removed."""
        path = self.directory / name
        remove(path)
        return path

    def timed(self, command: Command) -> tuple[float, str]:
        """Seconds from start to end, and what it wrote on standard output.

        The output of an earlier run goes first. Raises `CommandFailed`; whatever the command left
        running is ended.
        """
        if command.output is not None:
            remove(command.output)
        began = time.perf_counter()
        said = self._run(command)
        return time.perf_counter() - began, said

    def _run(self, command: Command) -> str:
        with (
            tempfile.TemporaryFile(dir=self.directory) as out,
            tempfile.TemporaryFile(dir=self.directory) as log,
        ):
            process = subprocess.Popen(
                [str(word) for word in command.words],
                cwd=self.directory,
                env=self.environment | dict(command.environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )
            try:
                status = process.wait(MOST_SECONDS)
            except subprocess.TimeoutExpired:
                raise CommandFailed(f"it did not end in {MOST_SECONDS:.0f} s") from None
            finally:
                end_group(process)
            out.seek(0)
            log.seek(0)
            wrote = out.read().decode(errors="replace")
            if status:
                lines = (wrote + log.read().decode(errors="replace")).split("\n")
                last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
                raise CommandFailed(f"exit status {status}: {anonymous(last.strip())[:300]}")
            return wrote

    def close(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


def end_group(process: subprocess.Popen[bytes], *signals: signal.Signals) -> None:
    """End a process and all others of its group that still run; kindly, unless it is said how."""
    for number in signals or (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        if process.poll() is not None:
            continue
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
    process.wait()


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def anonymous(text: str) -> str:
    """Without the names of this machine and of its directories, to be published."""
    for name, instead in (
        (str(CHECKOUT), "."),
        (str(Path.home()), "~"),
        (sys.base_prefix, "python"),
        (socket.gethostname(), "host"),
    ):
        if len(name) > 1:
            text = text.replace(name, instead)
    return text


# ---- what they wrote

#: Says the same of two outputs if they agree.
Digest = Callable[[Path], str]


def parts(output: Path) -> list[Path]:
    """The files of an output, in order; beside them are only marks such as ``_SUCCESS``."""
    if not output.is_dir():
        return [output]
    return sorted(path for path in output.iterdir() if path.name[0] not in "._")


def any_order(output: Path) -> str:
    """The digest of an output's lines, sorted."""
    data = b"".join(path.read_bytes() for path in parts(output))
    lines = data.split(b"\n")
    lines.sort()
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def in_order(output: Path) -> str:
    """The digest of an output's bytes, part after part."""
    digest = hashlib.sha256()
    for path in parts(output):
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
    return digest.hexdigest()


# ---- two sides


@dataclass(frozen=True)
class Measured:
    """What a row's measurement gave. ``figure`` is in the row's unit; the lists are raw seconds."""

    figure: float
    ours: list[float]
    reference: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, object] = field(default_factory=dict)


def race(
    runner: Runner, ours: Command, reference: Command, runs: int, digest: Digest | None
) -> Measured:
    """Run both sides by turns. The figure is the median of the ratios, pair by pair.

    Raises `Failed` if ours fails or, in any run, the outputs differ; `Unavailable` if the
    reference fails.
    """
    our_seconds: list[float] = []
    reference_seconds: list[float] = []
    for number in range(runs):
        try:
            reference_seconds.append(runner.timed(reference)[0])
        except CommandFailed as error:
            raise Unavailable(f"fails: {error}") from error
        our_seconds.append(run_ours(runner, ours)[0])
        report_run(number, runs, our_seconds[-1], reference_seconds[-1])
        if digest is not None:
            assert ours.output is not None
            assert reference.output is not None
            if digest(ours.output) != digest(reference.output):
                raise Failed("the outputs differ")
    for command in (ours, reference):
        if command.output is not None:
            remove(command.output)
    return Measured(ratio(our_seconds, reference_seconds), our_seconds, reference_seconds)


def run_ours(runner: Runner, command: Command) -> tuple[float, str]:
    """`Runner.timed` for a command of ours. Raises `Failed`."""
    try:
        return runner.timed(command)
    except CommandFailed as error:
        raise Failed(f"pytxmr fails: {error}") from error


def ratio(ours: Sequence[float], reference: Sequence[float]) -> float:
    """The median of the ratios, pair by pair."""
    return statistics.median(a / b for a, b in zip(ours, reference, strict=True))


def report_run(number: int, runs: int, ours: float, reference: float | None = None) -> None:
    """Tell how one run went, on standard error."""
    text = f"  run {number + 1} of {runs}: pytxmr {ours:.3g} s"
    if reference is not None:
        text += f", reference {reference:.3g} s, ratio {ours / reference:.2f}"
    print(text, file=sys.stderr, flush=True)
