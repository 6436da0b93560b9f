"""`pytxmr.testing.InMemoryCluster`: a cluster for tests of Twisted programs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from pytxmr.client import Client, JobOptions, make_spec
from pytxmr.errors import JobFailed, NotFound
from pytxmr.job import context
from pytxmr.testing import InMemoryCluster

JOB = """\
import pytxmr
import helping

class Words(pytxmr.MapReduce):
    params = {"least": 1}

    def map(self, key, value):
        pytxmr.counter("lines")
        assert value != "bad", value
        for word in helping.words(value):
            yield word, 1

    def reduce(self, key, values):
        total = sum(values)
        if total >= self.params["least"]:
            yield key, total
"""


def spec_of(directory: Path, output: str, text: str = "a b\nb\nc\n", **options: Any) -> Any:
    (directory / "job.py").write_text(JOB)
    (directory / "helping.py").write_text("words = str.split\n")
    (directory / "in.txt").write_text(text)
    job = f"{directory}/job.py:Words"
    out = os.fspath(directory / output)
    return make_spec(JobOptions(job, (f"{directory}/in.txt",), out, **options))


def test_a_job_runs_on_several_trackers_and_its_result_is_read(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "out", reducers=2, split_bytes=2, params={"least": "2"})
    with InMemoryCluster(trackers=3) as cluster:
        result = cluster.result_of(cluster.client.run(spec))
    assert dict(result) == {"b": "2"}
    assert result.counters == {"lines": 3}
    assert result.seconds > 0.3  # virtual ones


def test_results_are_kept_and_reused_as_on_any_cluster(tmp_path: Path) -> None:
    with InMemoryCluster(trackers=2) as cluster:
        reused = []
        for name in ("one", "two"):
            spec = spec_of(tmp_path, name, reducers=2, split_bytes=2, reuse=True)
            result = cluster.result_of(cluster.client.run(spec))
            assert dict(result) == {"a": "1", "b": "2", "c": "1"}
            reused.append([result.totals[f"{task} reused"] for task in ("maps", "reduces")])
    assert reused == [[0, 0], [4, 2]]


def test_a_program_gets_the_client_and_a_reactor_whose_time_passes_at_once(tmp_path: Path) -> None:
    async def program(reactor: Any, client: Client) -> list[dict[str, str]]:
        await deferLater(reactor, 1800)
        specs = [spec_of(tmp_path, name, reducers=1) for name in ("one", "two")]
        return [dict(found) for found in await gatherResults(map(client.run, specs))]

    with InMemoryCluster() as cluster:
        found = cluster.result_of(program(cluster.reactor, cluster.client))
    assert found == [{"a": "1", "b": "2", "c": "1"}] * 2


def test_failures_are_raised_and_the_users_traceback_is_there(tmp_path: Path) -> None:
    with InMemoryCluster() as cluster:
        with pytest.raises(JobFailed, match="Map001 failed 4 times") as caught:
            cluster.result_of(cluster.client.run(spec_of(tmp_path, "out", "bad\n")))
        with pytest.raises(NotFound):
            cluster.result_of(cluster.client.status("Job007"))
    assert "job.py" in caught.value.details["traceback"]
    assert not (tmp_path / "out").exists()


def test_what_never_comes_is_a_timeout_and_not_a_hang() -> None:
    with InMemoryCluster() as cluster, pytest.raises(TimeoutError):
        cluster.result_of(Deferred(), seconds=600)


def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path / "temporary"))
    spec = spec_of(tmp_path, "out", params={"least": "2"})
    monkeypatch.setattr("pytxmr.job.context.params", {"mine": 1})
    with InMemoryCluster() as cluster:
        cluster.result_of(cluster.client.run(spec))
        assert os.listdir(tmp_path / "temporary")
    assert context.params == {"mine": 1}
    assert os.listdir(tmp_path / "temporary") == []
