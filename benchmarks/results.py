"""Results as they are kept: raw figures in a JSON, of each row the newest."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.environments import CHECKOUT
from benchmarks.inputs import SEED


@dataclass(frozen=True)
class Result:
    """What came of one row.

    ``figure`` is in the row's unit, and None if ``error`` says why there is none. The lists are
    raw: seconds of each run, or seconds per byte. ``where`` and ``versions`` say on what.
    """

    name: str
    figure: float | None
    ours: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    measured: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)


class Results:
    """The results in a file; those of rows that are measured anew replace the old ones."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.by_name: dict[str, Result] = {}
        if path.exists():
            for plain in json.loads(path.read_text())["rows"]:
                self.by_name[plain["name"]] = Result(**plain)

    def add(self, result: Result, order: list[str]) -> None:
        """Take it in and write the file, in the order of these names; others are forgotten."""
        self.by_name[result.name] = result
        self.by_name = {name: self.by_name[name] for name in order if name in self.by_name}
        rows = [asdict(kept) for kept in self.by_name.values()]
        text = json.dumps({"seed": SEED, "rows": rows}, indent=1) + "\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(text)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def machine() -> dict[str, str]:
    """The machine as far as it bears on figures; nothing that tells whose it is."""
    memory = re.search(r"MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    release = re.match(r"[0-9.]*[0-9]", platform.release())
    return {
        "processor": model[1].strip() if model else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "kernel": f"{platform.system()} {release[0] if release else ''}".strip(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def revision() -> str:
    """The commit of the checkout, with a + if pytxmr in it differs; empty outside of git."""
    try:
        commit = _git("rev-parse", "--short=10", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--", "pytxmr") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", CHECKOUT, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
