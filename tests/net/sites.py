"""A cluster in this process, with jobs to give it: what tests of the services share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import clientFromString
from wires import soon, until

from pytxmr.client import JobOptions, connect, make_spec, submit
from pytxmr.errors import PytxmrError
from pytxmr.jobtracker import JobTracker, JobTrackerConfig
from pytxmr.net.remote import Peer
from pytxmr.tasktracker import TaskTracker, TrackerConfig

SECRET = b"5e" * 32

WORDCOUNT = """
def mapper(key, value):
    for word in value.split():
        yield word, 1

def reducer(key, values):
    yield key, sum(values)

combiner = reducer
"""


class Site:
    """A directory with jobs; the services that were opened in it are stopped at the end."""

    def __init__(self, reactor: Any, directory: Path) -> None:
        self.reactor = reactor
        self.directory = directory
        self.endpoint = f"unix:{directory / 'jobtracker'}"
        self._opened: list[Any] = []

    async def jobtracker(self, **more: Any) -> JobTracker:
        config = JobTrackerConfig(
            self.endpoint, SECRET, **{"heartbeat_seconds": 0.1, "lease_seconds": 5.0} | more
        )
        made = JobTracker(self.reactor, config)
        await self._open(made)
        return made

    def new_tasktracker(self, name: str = "one", workers: int = 1, **more: Any) -> TaskTracker:
        config = TrackerConfig(
            name=name,
            work_dir=str(self.directory / f"work-{name}"),
            workers=workers,
            kv_listen="tcp:0:interface=127.0.0.1",
            **{"secret": SECRET} | more,
        )
        place = clientFromString(self.reactor, self.endpoint)
        return TaskTracker(self.reactor, config, place)

    async def tasktracker(self, name: str = "one", **more: Any) -> TaskTracker:
        return await self._open(self.new_tasktracker(name, **more))

    async def _open(self, service: Any) -> Any:
        await soon(service.open())
        self._opened.append(service)
        service.startService()
        return service

    async def client(self) -> Peer:
        peer = await soon(connect(self.reactor, self.endpoint, SECRET))
        self._opened.append(peer)
        return peer

    async def stop(self, service: Any) -> None:
        self._opened.remove(service)
        await soon(service.stopService())

    async def close(self) -> None:
        for opened in reversed(self._opened):
            if isinstance(opened, Peer):
                opened.disconnect()
            else:
                await soon(opened.stopService())

    def spec(self, source: str = WORDCOUNT, text: str = "a b a\n", name: str = "job", **more: Any):
        job = self.directory / f"{name}.py"
        job.write_text(source)
        given = self.directory / f"{name}.input"
        given.write_text(text)
        output = str(self.directory / f"{name}.output")
        return make_spec(JobOptions(str(job), (str(given),), output, **more))

    def output(self, name: str = "job") -> list[str]:
        parts = sorted((self.directory / f"{name}.output").glob("part-*"))
        return sorted(line for part in parts for line in part.read_text().splitlines())


async def ended(jobtracker: Peer, job: str) -> dict[str, Any]:
    """The status of the job once it has ended."""
    status = await soon(jobtracker.call("wait", job, 20.0), 25)
    assert status["phase"] == "ended"
    return status


async def trackers(jobtracker: Peer) -> list[str]:
    return [one["tracker"] for one in await soon(jobtracker.call("trackers"))]


async def joined(client: Peer, count: int, but: Any = ()) -> list[str]:
    """The ids of the trackers once there are so many, none of them one of ``but``."""
    while True:
        found = await trackers(client)
        if len(found) == count and not set(found) & set(but):
            return found


def noted(path: Path) -> Any:
    return soon(until(lambda: path.exists() and path.read_text(), what=f"a note in {path}"))


def endless(path: Path, also: str = "") -> str:
    """A job that notes its pid, and never ends."""
    return f"""
import os, signal, subprocess

def mapper(key, value):
    {also}
    with open({str(path)!r} + ".new", "a") as file:
        file.write(f"{{os.getpid()}}\\n")
    os.rename({str(path)!r} + ".new", {str(path)!r})
    while True:
        signal.pause()
    yield

def reducer(key, values):
    yield key, 1
"""


# ---- a job that waits


def gated(directory: Path, where: str = "mapper") -> str:
    """Counts words; each attempt notes that it runs, and waits at the gate if it has the word."""
    os.mkfifo(directory / "gate")
    gate = f"""
def passing(kind, word):
    with open({str(directory / "ran")!r}, "a") as file:
        file.write(f"{{kind}} {{word}}\\n")
    if (kind, word) == ({where!r}, "gate"):
        open({str(directory / "gate")!r}).read()
"""
    return f"""{gate}
def mapper(key, value):
    for word in value.split():
        passing("mapper", word)
        yield word, 1

def reducer(key, values):
    passing("reducer", key)
    yield key, sum(values)
"""


def ran(directory: Path) -> list[str]:
    return sorted((directory / "ran").read_text().splitlines())


def at_gate(directory: Path, where: str = "mapper") -> Any:
    """Fires once an attempt waits there."""
    told = directory / "ran"
    return soon(until(lambda: told.exists() and f"{where} gate" in ran(directory)))


def open_gate(directory: Path) -> None:
    (directory / "gate").open("w").close()


async def started(site, state, source: str, **more: Any) -> tuple[Any, Any, Any]:
    """A cluster with a job that runs: the jobtracker, the tracker, the client."""
    jobtracker = await site.jobtracker(**state)
    tracker = await site.tasktracker(workers=1)
    client = await site.client()
    await joined(client, 1)
    spec = site.spec(source, text="a\ngate\nb\n", **{"split_bytes": 2} | more)
    assert await soon(submit(client, spec)) == "Job001"
    return jobtracker, tracker, client


def unwritable(*args: Any, **more: Any) -> None:
    """In place of what writes the jobtracker's state."""
    raise PytxmrError("the jobtracker cannot write its state: no space left")
