"""What every test leaves behind is looked at: timers, selectables, processes, errors in the log."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pools import Spawner
from sites import Site
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher
from wires import soon, turns, until

from pytxmr.net.workers import WorkerPool


@pytest.fixture
def reactor() -> Any:
    return installed_reactor


@pytest.fixture
def site(reactor: Any, tmp_path: Path) -> Iterator[Site]:
    made = Site(reactor, tmp_path)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


@pytest.fixture
def state(site: Site) -> dict[str, str]:
    return {"state_dir": str(site.directory / "state")}


@pytest.fixture
def pool(reactor: Any) -> Iterator[WorkerPool]:
    """A pool with one worker; afterwards no process is left."""
    made = WorkerPool(reactor, 1)
    made.start()
    yield made
    pytest_twisted.blockon(soon(made.stop()))


@pytest.fixture
def spawner() -> Spawner:
    return Spawner()


class Logged:
    """The errors that were logged during a test; those that it expects it takes out by `flush`."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event.get("log_failure") is not None or event.get("log_level") in (
            LogLevel.error,
            LogLevel.critical,
        ):
            self.events.append(event)

    def flush(self) -> list[str]:
        """What was logged so far, as text."""
        found, self.events = self.events, []
        return [repr(event.get("log_failure") or event.get("log_format")) for event in found]


@pytest.fixture(autouse=True)
def logged() -> Iterator[Logged]:
    """Fails a test after which errors stand in the log, those of forgotten Deferreds included."""
    seen = Logged()
    globalLogPublisher.addObserver(seen)
    try:
        yield seen
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(seen)
    assert seen.flush() == []


def _in_use() -> set[Any]:
    reactor: Any = installed_reactor
    return {*reactor.getReaders(), *reactor.getWriters(), *reactor.getDelayedCalls()}


def _children() -> set[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return set(file.read().split())


@pytest.fixture(scope="session", autouse=True)
def _reactor_runs() -> Iterator[None]:
    # What the reactor needs for itself is there only once it runs.
    pytest_twisted.blockon(turns())


@pytest.fixture(scope="module", autouse=True)
def _collected(_reactor_runs: None) -> Iterator[None]:
    """A collection after each test, for forgotten Deferreds, need not look at what was there
    before its module, which is much where other modules have run."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_left(logged) -> Iterator[None]:
    """Fails a test that leaves a timer, a selectable or a child; closing takes some turns."""
    before, children = _in_use(), _children()
    yield
    if _in_use() - before or _children() - children:
        gone = until(lambda: not (_in_use() - before or _children() - children), 2.0, "cleaned up")
        gone.addErrback(lambda failure: None)
        pytest_twisted.blockon(gone)
    assert _in_use() - before == set()
    assert _children() - children == set()
