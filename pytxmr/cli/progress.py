"""How far a job is, as people see it while it runs."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO

from pytxmr.model import step_label

_LINE_SECONDS = 10.0


class ProgressShown:
    """A bar on a terminal; elsewhere a line per phase, and one every ten seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bar = self._stream.isatty()
        self._phase = ("", "")
        self._told = 0.0

    def show(self, status: dict[str, Any]) -> None:
        if self._bar:
            self._draw(status)
            return
        now = time.monotonic()
        phase = (status["job"], status["phase"])
        if phase != self._phase or now - self._told > _LINE_SECONDS:
            self._phase, self._told = phase, now
            self._stream.write(f"{step_label(status)}{status['job']} {progress_text(status)}\n")
            self._stream.flush()

    def _draw(self, status: dict[str, Any]) -> None:
        columns = shutil.get_terminal_size().columns
        text = f"{step_label(status)}{status['job']} {progress_text(status)}"
        text += f" {status['seconds']:.0f} s"
        width = max(10, min(40, columns - len(text) - 4))
        done = round(width * fraction_done(status))
        bar = "█" * done + "░" * (width - done)
        self._stream.write(f"\r\x1b[K{f'{bar} {text}'[: columns - 1]}")
        self._stream.flush()

    def close(self) -> None:
        if self._bar:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def fraction_done(status: dict[str, Any]) -> float:
    """How much of the job is done: maps count for two thirds, reduces for one."""
    if status["outcome"]:
        return 1.0
    maps = status["maps_done"] + status["fraction_running"]
    reduces = status["reduces_done"] + status["fraction_reducing"]
    mapped = min(1.0, maps / status["maps"]) if status["maps"] else 1.0
    reduced = min(1.0, reduces / status["reduces"]) if status["reduces"] else 0.0
    if map_only(status):
        return mapped
    return float(2 * mapped + reduced) / 3


def map_only(status: dict[str, Any]) -> bool:
    """Is it a job without reduces? Until it starts, that is not known of any."""
    return not status["reduces"] and status["phase"] != "queued"


def progress_text(status: dict[str, Any]) -> str:
    """Its phase, and how many of its tasks are done."""
    text = f"{status['phase']}: map {status['maps_done']}/{status['maps']}"
    if not map_only(status):
        text += f", reduce {status['reduces_done']}/{status['reduces']}"
    return text + (f", {status['failures']} failed" if status["failures"] else "")
