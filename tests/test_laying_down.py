"""Side files at a tracker: written in a thread, while whatever may happen to the job happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pytxmr.errors import BadJob, PytxmrError, Stale
from pytxmr.model import JobCode, SideFile
from pytxmr.tasktracker import TaskTracker, TrackerConfig


class Threads(Clock):
    """A reactor whose threads do what they are given when `work` is called."""

    def __init__(self) -> None:
        super().__init__()
        self._given: list[Callable[[], None]] = []

    def getThreadPool(self) -> Threads:
        return self

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)

    def callInThreadWithCallback(
        self, told: Callable[..., None], function: Callable[..., Any], *args: Any, **more: Any
    ) -> None:
        def do() -> None:
            try:
                told(True, function(*args, **more))
            except BaseException:
                told(False, Failure())

        self._given.append(do)

    def work(self) -> None:
        while self._given:
            self._given.pop(0)()


class NoWorkers:
    def retire(self, job: str) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)


class Site:
    def __init__(self, directory: Path) -> None:
        self.threads = Threads()
        self.jobs = directory / "jobs"
        self.jobs.mkdir()
        (directory / "logs").mkdir()
        endpoint: Any = None
        pool: Any = NoWorkers()
        config = TrackerConfig("one", str(directory), 1, "tcp:0", b"secret")
        self.tracker = TaskTracker(self.threads, config, endpoint, pool)

    def init(self, *files: SideFile) -> list[Any]:
        """What comes of it, as soon as it has."""
        setup = {
            "code": JobCode("job.py", b"").to_plain(),
            "key": b"key",
            "files": [file.to_plain() for file in files],
            "params": {},
            "key_sample": None,
            "sampled": [],
            "task_timeout": 0,
            "memory_bytes": None,
            "codec": "none",
            "compress": "none",
            "sides": [],
        }
        answered: list[Any] = []
        laid = self.tracker.init_job("Job001", setup)
        (succeed(None) if laid is None else laid).addBoth(answered.append)
        return answered

    def listing(self) -> list[str]:
        return sorted(str(path.relative_to(self.jobs)) for path in self.jobs.rglob("side*"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


WORDS = SideFile("words", b"a b")


def test_a_tracker_is_ready_when_the_files_are_there_and_not_before(site: Site) -> None:
    answers = [site.init(WORDS), site.init(WORDS)]
    assert answers == [[], []]
    site.threads.work()
    assert answers == [[None], [None]]
    assert site.listing() == ["Job001/side"]
    assert (site.jobs / "Job001" / "side" / "words").read_bytes() == b"a b"
    assert site.init(WORDS) == [None]
    assert [path.name for path in site.jobs.iterdir()] == ["Job001"]


def test_a_job_without_files_is_ready_at_once(site: Site) -> None:
    assert site.init() == [None]


def test_a_job_that_ends_meanwhile_gets_none(site: Site) -> None:
    answer = site.init(WORDS)
    destroyed = site.tracker.destroy_job("Job001", keep=False)
    again = site.init(WORDS)
    site.threads.work()
    assert destroyed.called
    (failure,) = answer
    assert isinstance(failure.value, Stale)
    assert again == [None]
    assert site.listing() == ["Job001/side"]
    assert [path.name for path in site.jobs.iterdir()] == ["Job001"]


def test_an_archive_that_cannot_be_used_is_an_answer_and_leaves_nothing(site: Site) -> None:
    answer = site.init(WORDS, SideFile("all.zip", b"PK, but no zip", is_archive=True))
    site.threads.work()
    (failure,) = answer
    assert isinstance(failure.value, BadJob)
    assert list(site.jobs.iterdir()) == []


def test_a_disk_that_is_full_is_an_answer_and_leaves_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(files: Any, directory: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pytxmr.storage.sidefiles.lay_down", full)
    answer = site.init(WORDS)
    site.threads.work()
    (failure,) = answer
    assert isinstance(failure.value, PytxmrError)
    assert "No space left" in str(failure.value)
    assert list(site.jobs.iterdir()) == []
