"""The steps of a job that was submitted as a whole: one behind the other, without the client."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from pytxmr.client import JobOptions, make_specs
from pytxmr.errors import JobFailed, NotFound, PeerBroke
from pytxmr.jobtracker import JobTracker
from pytxmr.testing import InMemoryCluster

JOB = """\
import pytxmr
from pytxmr import pipeline

params = {"bad": ""}

def checked(word):
    pytxmr.counter("words")
    if word == pytxmr.params["bad"]:
        raise ValueError(word)
    return word

words = pipeline.input().flat_map(str.split).map(checked)
lengths = words.count().map(lambda pair: len(checked(pair[0])))
output = lengths.count().map(lambda pair: (pair[0], checked(str(pair[1]))))
"""


@pytest.fixture
def specs(tmp_path: Path) -> Any:
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "in.txt").write_text("a b bb a\n")

    def made(**options: Any) -> Any:
        job, given = str(tmp_path / "job.py"), (str(tmp_path / "in.txt"),)
        return make_specs(JobOptions(job, given, str(tmp_path / "out"), reducers=1, **options))

    return made


def statuses(cluster: InMemoryCluster, *jobs: str) -> list[dict[str, Any]]:
    return [cluster.result_of(cluster.client.status(job)) for job in jobs]


def outcomes(cluster: InMemoryCluster, *jobs: str) -> list[str]:
    return [status["outcome"] or status["phase"] for status in statuses(cluster, *jobs)]


def left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name.startswith("out"))


def test_the_steps_run_and_the_result_is_of_the_whole(specs: Any, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    with InMemoryCluster() as cluster:
        client = cluster.client
        job = cluster.result_of(client.submit(specs()))
        assert job == "Job002"
        before = cluster.result_of(client.status(job))
        assert (before["phase"], before["chain"]) == ("waiting", ["Job001", "Job002"])
        assert before["current"]["job"] == "Job001"
        result = cluster.result_of(client.result(job, told.append))
        assert dict(result) == {"1": "2", "2": "1"}
        assert result.counters == {"words": 4 + 3 + 2}
        assert outcomes(cluster, "Job001", "Job002") == ["succeeded", "succeeded"]
        with pytest.raises(NotFound):
            statuses(cluster, "Job003")
    assert {status["step"][0] for status in told[:-1]} >= {1}
    assert [status["step"] for status in told[-1]["steps"]] == [[1, 2], [2, 2]]
    assert left(tmp_path) == ["out"]


def test_of_steps_that_are_forgotten_meanwhile_the_last_tells_alone(
    specs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with InMemoryCluster() as cluster:
        cluster.result_of(cluster.client.run(specs()))
        monkeypatch.setattr("pytxmr.jobbook.MOST_ENDED_JOBS", 1)
        (tmp_path / "out").rename(tmp_path / "moved")
        assert cluster.result_of(cluster.client.submit(specs())) == "Job004"
        with pytest.raises(NotFound):
            statuses(cluster, "Job001")
        result = cluster.result_of(cluster.client.result("Job002"))
        assert result.counters == {"words": 2}


def test_what_the_steps_store_stays_if_it_is_to(specs: Any, tmp_path: Path) -> None:
    with InMemoryCluster() as cluster:
        cluster.result_of(cluster.client.run(specs(keep_steps=True)))
        (tmp_path / "out").rename(tmp_path / "moved")
        result = cluster.result_of(cluster.client.run(specs(from_="2")))
        assert dict(result) == {"1": "2", "2": "1"}
    assert left(tmp_path) == ["out", "out.steps"]


def test_a_step_that_fails_is_that_of_which_is_told_and_no_other_begins(
    specs: Any, tmp_path: Path
) -> None:
    with InMemoryCluster() as cluster:
        for number, bad in ((1, "bb"), (4, "2")):
            made = specs(params={"bad": bad})
            job = cluster.result_of(cluster.client.submit(made))
            with pytest.raises(JobFailed) as caught:
                cluster.result_of(cluster.client.result(job))
            step = 1 if bad == "bb" else 2
            assert f"step {step} of 2: Job00{2 * (number // 3) + step}: " in str(caught.value)
            assert f"ValueError: {bad}" in caught.value.details["traceback"]
            assert left(tmp_path) == []
        assert outcomes(cluster, "Job001", "Job002") == ["failed", "failed"]
        (_, never) = statuses(cluster, "Job001", "Job002")
        assert never["error"] == {"message": "Job001, the step before it, has not succeeded"}
        assert outcomes(cluster, "Job003", "Job004") == ["succeeded", "failed"]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("after", ["Job001", "Job002"])
def test_to_kill_one_ends_all_of_them(specs: Any, tmp_path: Path, which: int, after: str) -> None:
    """``after``: that job runs when it is killed."""

    async def killed(cluster: InMemoryCluster) -> dict[str, Any]:
        job = await cluster.client.submit(specs())
        while (await cluster.client.status(after))["phase"] in ("waiting", "queued"):
            await deferLater(cluster.reactor, 0.01)
        return await cluster.client.kill(["Job001", job][which])

    with InMemoryCluster() as cluster:
        status = cluster.result_of(killed(cluster))
        first = "succeeded" if after == "Job002" else "killed"
        assert status["outcome"] == (first if which == 0 else "killed")
        cluster.result_of(deferLater(cluster.reactor, 60))
        assert outcomes(cluster, "Job001", "Job002") == [first, "killed"]
    assert left(tmp_path) == []


def test_to_kill_a_step_while_it_is_planned_leaves_nothing_of_it(
    specs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate: Deferred[None] = Deferred()
    reached: Deferred[None] = Deferred()

    async def later(book: Any, turn: Any) -> None:
        reached.callback(None)
        await gate
        await planned(book, turn)

    from pytxmr.jobbook import JobBook

    planned = JobBook._plan_turn
    monkeypatch.setattr(JobBook, "_plan_turn", later)
    with InMemoryCluster() as cluster:
        job = cluster.result_of(cluster.client.submit(specs()))
        cluster.result_of(reached)
        killing = cluster.client.kill(job)
        gate.callback(None)
        assert cluster.result_of(killing)["outcome"] == "killed"
    assert left(tmp_path) == []


def test_a_step_whose_input_is_gone_meanwhile_fails(specs: Any, tmp_path: Path) -> None:
    first, second = specs()
    second = replace(second, inputs=(str(tmp_path / "gone"),))
    with InMemoryCluster() as cluster:
        with pytest.raises(JobFailed, match=r"step 2 of 2: Job002: it cannot begin: .*gone"):
            cluster.result_of(cluster.client.run([first, second]))
        assert outcomes(cluster, "Job001", "Job002") == ["succeeded", "failed"]
    assert left(tmp_path) == []


@pytest.mark.parametrize("later", [None, "x", [1], [{"output": 7}], [{"step": 9}], [{}] * 1001])
def test_following_jobs_that_cannot_be_are_refused(specs: Any, tmp_path: Path, later: Any) -> None:
    with InMemoryCluster() as cluster:
        asked = cluster.client._patient.ask("submit", specs()[0].to_plain(), "5e" * 16, later)
        with pytest.raises(PeerBroke):
            cluster.result_of(asked)
    assert left(tmp_path) == []


# ---- a jobtracker that is killed


class Killed(Exception):
    """Ends what the jobtracker is about to do."""


class Mortal(InMemoryCluster):
    """The jobtracker keeps its state, and is killed once: at its ``at``-th write to it, before or
    behind which. A second later it is started again."""

    def __init__(self, directory: Path, at: int, behind: bool) -> None:
        super().__init__(trackers=1)
        self._state_directory = os.fspath(directory / "state")
        self._at = at
        self._behind = behind
        self.writes = 0
        self.armed = False

    def _open(self, end: ExitStack, service: Any) -> None:
        if isinstance(service, JobTracker):
            config = replace(service._config, state_dir=self._state_directory)
            service = self._jobtracker = JobTracker(service._reactor, config)
            end.callback(lambda: self.result_of(self._jobtracker.stopService()))
            self.result_of(self._opened())
        else:
            super()._open(end, service)

    async def _opened(self) -> None:
        service = self._jobtracker
        await service.open()
        if not self.armed:
            write = service._state._write

            def counted(change: Any) -> None:
                self.writes += self.armed
                if self.writes != self._at or not self.armed:
                    return write(change)
                if self._behind:
                    write(change)
                self._kill()
                raise Killed

            service._state._write = counted
        service.startService()

    def _kill(self) -> None:
        service, config = self._jobtracker, self._jobtracker._config
        service._reactor.crash(True)
        service._state.close()
        self._jobtracker = JobTracker(self._machine("10.0.0.1"), config)
        again = self._clock.now + 1.0
        self._clock.call_at(again, None, lambda: Deferred.fromCoroutine(self._opened()))


def run_mortal(specs: Any, directory: Path, at: int, behind: bool) -> int:
    """Returns how often the state was written."""
    with Mortal(directory, at, behind) as cluster:
        cluster.armed = True
        result = cluster.result_of(cluster.client.run(specs()))
        assert dict(result) == {"1": "2", "2": "1"}
        assert result.counters == {"words": 9}
        cluster.result_of(deferLater(cluster.reactor, 60))
        records = cluster._jobtracker._state.remembered()
        assert [record["status"]["outcome"] for record in records] == ["succeeded"] * 2
    assert left(directory) == ["out"]
    return cluster.writes


@pytest.mark.parametrize("behind", [False, True])
def test_a_jobtracker_that_is_killed_at_any_write_goes_on_with_the_steps(
    specs: Any, tmp_path: Path, behind: bool
) -> None:
    writes = run_mortal(specs, tmp_path, 0, behind)
    assert writes > 20
    for at in range(1, writes + 1):
        for path in (tmp_path / "out").iterdir():
            path.unlink()
        (tmp_path / "out").rmdir()
        for path in (tmp_path / "state").iterdir():
            path.unlink()
        run_mortal(specs, tmp_path, at, behind)
