"""Jobs and tasks for pools of workers, and workers that are none: what tests of the pools share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from wires import soon, until

from pytxmr.model import JobCode
from pytxmr.net.workers import Setup, Task, WorkerPool
from pytxmr.records.spill import open_spill, read_blocks

WORDCOUNT = """
def mapper(key, value):
    for word in value.split():
        yield word, 1

def reducer(key, values):
    yield key, sum(values)
"""

#: Of no process: Linux counts up to 4194304.
NO_PID = 1 << 30

#: A job that can be told by its input what to do.
TOLD = '''
import os, signal, subprocess, sys, threading, time
import pytxmr

imported = []
imported.append(os.getpid())

def mapper(key, value):
    exec(value, globals())
    yield "pid", os.getpid()

def note(text):
    """Write it whole, so that a reader sees nothing or all."""
    with open(target + ".new", "w") as file:
        file.write(str(text))
    os.rename(target + ".new", target)

def wait_for_ever():
    while True:
        signal.pause()

def reducer(key, values):
    yield key, list(values)
'''


class Site:
    """A directory with jobs, and tasks for them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.number = 0

    def job(self, source: str, name: str = "Job001", **params: Any) -> dict[str, Any]:
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        (directory / "source.py").write_text(source)
        code = JobCode("/somewhere/job.py", source.encode())
        return {
            "directory": str(directory),
            "source_path": str(directory / "source.py"),
            "modules_path": None,
            "code": {k: v for k, v in code.to_plain().items() if k not in ("source", "modules")},
            "side_files": {},
            "params": params,
            "key_sample": None,
            "memory_bytes": 1 << 26,
            "data_bytes": 1 << 32,
            "codec": "none",
            "compress": "none",
        }

    def map_task(
        self, text: str, source: str = TOLD, job: str = "Job001", attempt: str = "", **params: Any
    ) -> Task:
        self.number += 1
        name = attempt or f"Map{self.number:03d}.0"
        path = self.directory / f"{job}-{name}.input"
        path.write_text(text)
        message = {
            "do": "map",
            "split": [[str(path), 0, path.stat().st_size]],
            "partitions": 1,
            "spill_path": str(self.directory / f"{job}-{name}"),
            "log": str(self.log(job, name)),
        }
        setup = Setup(self.job(source, job, **params))
        return Task(job, name, message, setup, lambda fraction, status: None)

    def log(self, job: str, attempt: str) -> Path:
        return self.directory / f"{job}-{attempt}.log"

    def told(self, target: Path, what: str, **more: Any) -> Task:
        """A map that knows where to `note` something, and does what it is told, on one line."""
        return self.map_task(f"target = {str(target)!r}; {what}\n", **more)

    def pairs(self, task: Task) -> list[Any]:
        fd, ranges = open_spill(task.message["spill_path"])
        with open(fd, "rb"):
            blocks = [b for part in ranges for b in read_blocks(fd, part.offset, part.length)]
        return [(key, b.values[n]) for b in blocks for n, key in enumerate(b.keys)]


def noted(path: Path) -> Any:
    """Fires with what a worker has noted in a file, once it has."""
    return soon(until(lambda: path.exists() and path.read_text(), what=f"a note in {path}"))


async def pid_of(pool: WorkerPool, site: Site, **more: Any) -> int:
    """The process that runs the next task."""
    task = site.map_task("pass\n", **more)
    await soon(pool.run(task))
    return dict(site.pairs(task))["pid"]


# ---- without processes


class Fake:
    """A process that is none: remembers what it is told, and ends when the test says so."""

    pid = NO_PID

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.cookie = "no such cookie"
        self.heard: list[Any] = []
        self.killed = False
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        unpacker = msgpack.Unpacker()
        unpacker.feed(data)
        self.heard += unpacker

    def kill(self) -> None:
        self.killed = True

    def answer(self, message: Any) -> None:
        self.protocol.childDataReceived(4, msgpack.packb(message))

    def die(self) -> None:
        self.protocol.processExited(Failure(ProcessTerminated(signal=9)))


class Spawner(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[Fake] = []

    def pool(self, workers: int, **more: Any) -> WorkerPool:
        made = WorkerPool(self, workers, spawn=self._spawn, **more)
        made.start()
        return made

    def _spawn(self, reactor: Any, protocol: Any) -> None:
        self.spawned.append(Fake(protocol))
