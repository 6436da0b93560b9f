"""Jobtracker and tasktracker in this process: they find each other, part, and leave nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from sites import SECRET, WORDCOUNT, ended, endless, joined, noted, trackers
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory
from twisted.logger import globalLogPublisher
from wires import Mute, Scripted, await_death, is_alive, result_of, serve, soon, turns, until

from pytxmr.client import connect, submit
from pytxmr.errors import (
    BadConfiguration,
    NotFound,
    PeerBroke,
    PytxmrError,
    Refused,
    Stale,
    Unreachable,
)
from pytxmr.jobtracker import JobTracker, JobTrackerConfig
from pytxmr.net.remote import pack, unpack
from pytxmr.plan import events as ev
from pytxmr.runners.local import LocalCluster
from pytxmr.tasktracker import TaskTracker, TaskTrackerVerbs, TrackerConfig

# ---- whole jobs


@pytest_twisted.ensureDeferred
async def test_a_local_cluster_counts_words_and_leaves_nothing(reactor, site):
    cluster = LocalCluster(reactor, 2)
    try:
        jobtracker = await soon(cluster.start())
        spec = site.spec(text="b a b\n" * 1000 + "c\n", split_bytes=1000, reducers=3)
        job = await soon(submit(jobtracker, spec))
        assert job == "Job001"
        status = await ended(jobtracker, job)
        assert status["outcome"] == "succeeded"
        assert site.output() == ["a\t1000", "b\t2000", "c\t1"]
        assert (site.directory / "job.output" / "_SUCCESS").exists()
        assert status["counters"]["map input records"] == 1001
        jobtracker.disconnect()
    finally:
        await soon(cluster.stop())
    assert not os.path.exists(cluster.directory)


@pytest_twisted.ensureDeferred
async def test_two_trackers_share_a_job_and_fetch_from_each_other(site):
    await site.jobtracker()
    client = await site.client()
    for name in ("one", "two"):
        await site.tasktracker(name)
    await joined(client, 2)
    spec = site.spec(text="b a b\n" * 2000 + "c\n", split_bytes=1000, reducers=4)
    status = await ended(client, await soon(submit(client, spec)))
    assert status["outcome"] == "succeeded"
    assert site.output() == ["a\t2000", "b\t4000", "c\t1"]


@pytest_twisted.ensureDeferred
async def test_a_kept_job_can_be_inspected_until_it_is_destroyed(reactor, site):
    await site.jobtracker()
    tracker = await site.tasktracker()
    client = await site.client()
    job = await soon(submit(client, site.spec(keep=True, reducers=1)))
    await ended(client, job)
    host = tracker.kv_port.getHost()
    person = await soon(
        clientFromString(reactor, f"tcp:{host.host}:{host.port}").connect(
            Factory.forProtocol(Scripted)
        )
    )
    person.transport.write(b"Job001@Map001@0\n")
    await soon(until(lambda: b"#" in person.heard))
    lines = person.heard.decode().splitlines()
    assert [json.loads(line) for line in lines[:-1]] == [["a", 2], ["b", 1]]
    assert lines[-1].startswith("# 2 pairs, 2 keys, ")
    directory = Path(tracker.store.spill_path(job, "x")).parent.parent
    assert [path.name for path in directory.iterdir()] == ["spills"]
    await soon(client.call("destroy", job))
    person.transport.write(b"Job001@Map001@0\nquit\n")
    await soon(person.lost)
    assert person.heard.decode().splitlines()[-1].startswith("! not-found: Job001 ")
    assert not directory.exists()


@pytest_twisted.ensureDeferred
async def test_who_destroys_a_job_is_told_if_a_tracker_did_not(site, monkeypatch):
    await site.jobtracker()
    tracker = await site.tasktracker()
    client = await site.client()
    job = await soon(submit(client, site.spec(keep=True)))
    await ended(client, job)

    def fails(*_: Any) -> None:
        raise PytxmrError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(tracker, "destroy_job", fails)
        with pytest.raises(PytxmrError, match=r"at one\.1 \(the disk is gone\); repeat"):
            await soon(client.call("destroy", job))
    await soon(client.call("destroy", job))


@pytest_twisted.ensureDeferred
async def test_what_is_destroyed_while_a_tracker_is_lost_goes_when_it_is_back(site):
    jobtracker = await site.jobtracker()
    tracker = await site.tasktracker()
    client = await site.client()
    job = await soon(submit(client, site.spec(keep=True)))
    await ended(client, job)
    assert tracker.store.jobs() == [job]
    jobtracker.plan.feed(ev.TrackerLost("one.1", "it is silent"))
    await soon(jobtracker.book.destroy(job))
    await joined(client, 1, but=["one.1"])
    await soon(until(lambda: not os.listdir(site.directory / "work-one" / "jobs")))
    assert tracker.store.jobs() == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("raise ValueError('x' * 3_000_000)", "ValueError: xxx"),
        ("raise ValueError('\U0001f600' * 300_000)", "ValueError: "),
        ("pytxmr.counter('x' * 3_000_000)", "too"),
        ("print('x' * 3_000_000); raise ValueError('short')", "ValueError: short"),
        ("pytxmr.status('x' * 3_000_000); raise ValueError('short')", "ValueError: short"),
    ],
    ids=["message", "wide message", "counter", "log", "status"],
)
@pytest_twisted.ensureDeferred
async def test_whatever_a_job_says_at_length_costs_the_job_and_not_the_tracker(site, line, message):
    await site.jobtracker()
    await site.tasktracker()
    client = await site.client()
    before = await joined(client, 1)
    source = f"import pytxmr\ndef mapper(key, value):\n    {line}\n    yield 1, 1\n"
    source += "def reducer(key, values):\n    yield key, 1\n"
    job = await soon(submit(client, site.spec(source)))
    status = await ended(client, job)
    assert status["outcome"] == "failed"
    assert message in status["error"]["message"]
    assert await trackers(client) == before


@pytest_twisted.ensureDeferred
async def test_a_parameter_that_no_worker_can_be_given_fails_the_job_with_a_reason(site):
    await site.jobtracker()
    await site.tasktracker()
    client = await site.client()
    await joined(client, 1)
    spec = site.spec(f"params = {{'n': 1}}\n{WORDCOUNT}", params={"n": str(2**70)})
    try:
        job = await soon(submit(client, spec))
    except PytxmrError:
        return
    status = await ended(client, job)
    assert status["outcome"] == "failed"
    assert "cannot be given this task" in status["error"]["message"]


# ---- endings


@pytest_twisted.ensureDeferred
async def test_a_jobtracker_that_stops_ends_its_running_jobs(site, tmp_path):
    jobtracker = await site.jobtracker()
    await site.tasktracker()
    client = await site.client()
    child = "subprocess.Popen(['sleep', '1000'])"
    job = await soon(submit(client, site.spec(endless(tmp_path / "pid", child))))
    pid = int(await noted(tmp_path / "pid"))
    waiting = soon(client.call("wait", job, 20.0))
    await site.stop(jobtracker)
    assert not is_alive(pid)
    assert not (site.directory / "job.output").exists()
    try:
        assert (await waiting)["outcome"] == "killed"
    except Unreachable:
        pass  # the answer crossed the end of the connection
    with pytest.raises(Unreachable):
        await soon(connect(site.reactor, site.endpoint, SECRET))


@pytest_twisted.ensureDeferred
async def test_a_tasktracker_that_stops_hangs_up_on_whoever_is_connected_to_its_store(
    reactor, site
):
    tracker = await site.tasktracker()
    host = tracker.kv_port.getHost()
    place = clientFromString(reactor, f"tcp:{host.host}:{host.port}")
    person = await soon(place.connect(Factory.forProtocol(Scripted)))
    person.transport.write(b"jobs\n")
    await soon(until(lambda: b"no jobs here" in person.heard))
    await site.stop(tracker)
    await soon(person.lost)


@pytest_twisted.ensureDeferred
async def test_a_tasktracker_that_stops_ends_all_its_jobs_started(site, tmp_path):
    await site.jobtracker()
    tracker = await site.tasktracker()
    client = await site.client()
    child = f"""
    daemon = subprocess.Popen(['sleep', '1000'], start_new_session=True)
    print(daemon.pid, file=open({str(tmp_path / "child")!r}, "w"))
"""
    job = await soon(submit(client, site.spec(endless(tmp_path / "pid", child))))
    pid = int(await noted(tmp_path / "pid"))
    await site.stop(tracker)
    assert not is_alive(pid)
    assert await_death(int((tmp_path / "child").read_text()))
    assert await trackers(client) == []
    assert os.listdir(site.directory / "work-one" / "logs") == [job]
    assert not (site.directory / "work-one" / "jobs").exists()
    killed = await soon(client.call("kill", job, "no tracker is left"))
    assert killed["outcome"] == "killed"


@pytest_twisted.ensureDeferred
async def test_a_job_that_is_killed_leaves_neither_process_nor_output(site, tmp_path):
    await site.jobtracker()
    await site.tasktracker()
    client = await site.client()
    job = await soon(submit(client, site.spec(endless(tmp_path / "pid"))))
    pid = int(await noted(tmp_path / "pid"))
    status = await soon(client.call("kill", job, "not wanted any more"))
    assert status["outcome"] == "killed"
    assert "not wanted any more" in status["error"]["message"]
    assert not is_alive(pid)
    assert not (site.directory / "job.output").exists()
    assert (await soon(client.call("kill", job, "again")))["outcome"] == "killed"
    # And the worker is free again.
    job = await soon(submit(client, site.spec(name="next")))
    assert (await ended(client, job))["outcome"] == "succeeded"


# ---- connections that come and go


def warnings() -> tuple[list[str], Callable[[], None]]:
    """What is logged from now on, as formats; and what ends that."""
    seen: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        seen.append(f"{event.get('log_format')} {event.get('error')}")

    globalLogPublisher.addObserver(observe)
    return seen, lambda: globalLogPublisher.removeObserver(observe)


@pytest_twisted.ensureDeferred
async def test_a_tasktracker_keeps_trying_until_the_jobtracker_is_there(site):
    seen, enough = warnings()
    try:
        await site.tasktracker()
        await soon(until(lambda: len([text for text in seen if "not registered" in text]) >= 2))
    finally:
        enough()
    assert "No such file or directory" in " ".join(seen)
    await site.jobtracker()
    client = await site.client()
    assert await joined(client, 1) == ["one.1"]


@pytest_twisted.ensureDeferred
async def test_a_tasktracker_with_another_secret_is_refused_and_says_so_once(site):
    await site.jobtracker()
    client = await site.client()
    seen, enough = warnings()
    try:
        await site.tasktracker(secret=b"00" * 32)
        await soon(until(lambda: len([t for t in seen if "was refused" in t]) >= 3))
    finally:
        enough()
    assert len([text for text in seen if "not registered" in text]) == 1
    assert await trackers(client) == []


@pytest_twisted.ensureDeferred
async def test_a_tracker_that_lost_its_connection_goes_on_as_the_incarnation_that_it_was(
    site, tmp_path
):
    jobtracker = await site.jobtracker()
    tracker = await site.tasktracker()
    client = await site.client()
    (before,) = await joined(client, 1)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    source = f"""
import os

def mapper(key, value):
    print(os.getpid(), file=open({str(tmp_path / "pid")!r}, "w"), flush=True)
    open({str(gate)!r}).read()
    yield value, 1

def reducer(key, values):
    yield key, sum(values)
"""
    job = await soon(submit(client, site.spec(source)))
    pid = await noted(tmp_path / "pid")
    lost = jobtracker.roster._peers[before]
    lost.disconnect()
    await soon(until(lambda: jobtracker.roster._peers.get(before, lost) is not lost))
    # The attempt that was begun goes on, and what it comes to is reported.
    gate.open("w").close()
    status = await ended(client, job)
    assert (status["outcome"], status["failures"]) == ("succeeded", 0)
    assert site.output() == ["a b a\t1"]
    assert await noted(tmp_path / "pid") == pid
    assert await joined(client, 1) == [before]
    assert tracker.who["tracker"] == before


@pytest_twisted.ensureDeferred
async def test_what_ends_while_the_connection_is_lost_is_reported_when_it_is_back(site, tmp_path):
    jobtracker = await site.jobtracker()
    tracker = await site.tasktracker()
    client = await site.client()
    (before,) = await joined(client, 1)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    source = f"""
def mapper(key, value):
    open({str(gate)!r}).read()
    yield value, 1

def reducer(key, values):
    yield key, sum(values)
"""
    job = await soon(submit(client, site.spec(source)))
    await soon(until(lambda: any(found.running for found in tracker._jobs.values())))
    lost = jobtracker.roster._peers[before]
    lost.disconnect()
    await soon(until(lambda: tracker._peer is None))
    gate.open("w").close()
    status = await ended(client, job)
    assert (status["outcome"], status["failures"]) == ("succeeded", 0)
    assert await joined(client, 1) == [before]


@pytest_twisted.ensureDeferred
async def test_a_jobtracker_that_restarts_is_found_again_under_the_next_epoch(site):
    state = str(site.directory / "state")
    jobtracker = await site.jobtracker(state_dir=state)
    tracker = await site.tasktracker()
    client = await site.client()
    await joined(client, 1)
    assert await soon(submit(client, site.spec(name="first"))) == "Job001"
    await ended(client, "Job001")
    assert jobtracker.epoch == 1
    await site.stop(jobtracker)
    await soon(until(lambda: tracker._peer is None))
    again = await site.jobtracker(state_dir=state)
    assert again.epoch == 2
    client = await site.client()
    await soon(until(lambda: tracker.who["epoch"] == 2))
    await joined(client, 1)
    assert await soon(submit(client, site.spec(name="second"))) == "Job002"
    assert (await ended(client, "Job002"))["outcome"] == "succeeded"
    assert (await soon(client.call("status", "Job001")))["outcome"] == "succeeded"
    assert (await soon(client.call("wait", "Job001", 20.0)))["name"] == "first.py"
    assert [job["job"] for job in await soon(client.call("jobs"))] == ["Job002"]
    assert [job["job"] for job in await soon(client.call("jobs", True))] == ["Job001", "Job002"]


@pytest_twisted.ensureDeferred
async def test_a_tasktracker_can_be_stopped_before_it_is_registered(site, reactor):
    for factory in (None, Factory.forProtocol(Mute)):
        port = None
        if factory is not None:
            port = await soon(serve(factory))
            site.endpoint = f"tcp:127.0.0.1:{port.getHost().port}"
        before = set(reactor.getDelayedCalls())
        tracker = await site.tasktracker()
        await soon(turns(10))
        await site.stop(tracker)
        await soon(turns(3))
        assert set(reactor.getDelayedCalls()) - before == set()
        if port is not None:
            await soon(port.stopListening())


# ---- one owner


@pytest_twisted.ensureDeferred
async def test_a_work_directory_has_one_tasktracker(site):
    first = await site.tasktracker()
    with pytest.raises(BadConfiguration, match="another tasktracker uses .*work-one"):
        await soon(site.new_tasktracker().open())
    await site.stop(first)
    await site.stop(await site.tasktracker())


@pytest_twisted.ensureDeferred
async def test_a_tasktracker_whose_port_is_taken_leaves_the_directory_free(site):
    port = await soon(serve(Factory.forProtocol(Mute)))
    taken = f"tcp:{port.getHost().port}:interface=127.0.0.1"
    config = TrackerConfig("one", str(site.directory / "work-one"), 1, taken, SECRET)
    place = clientFromString(site.reactor, site.endpoint)
    failed = TaskTracker(site.reactor, config, place)
    try:
        with pytest.raises(BadConfiguration, match="already in use"):
            await soon(failed.open())
        await site.tasktracker()
    finally:
        await soon(port.stopListening())


@pytest_twisted.ensureDeferred
async def test_a_state_directory_has_one_jobtracker(site):
    state = str(site.directory / "state")
    await site.jobtracker(state_dir=state)
    config = JobTrackerConfig("tcp:0:interface=127.0.0.1", SECRET, state)
    with pytest.raises(BadConfiguration, match="does another jobtracker"):
        await soon(JobTracker(site.reactor, config).open())


@pytest_twisted.ensureDeferred
async def test_a_jobtracker_whose_port_is_taken_leaves_the_state_free(site):
    port = await soon(serve(Factory.forProtocol(Mute)))
    taken = f"tcp:{port.getHost().port}:interface=127.0.0.1"
    state = str(site.directory / "state")
    try:
        with pytest.raises(BadConfiguration, match="already in use"):
            await soon(JobTracker(site.reactor, JobTrackerConfig(taken, SECRET, state)).open())
    finally:
        await soon(port.stopListening())
    await site.jobtracker(state_dir=state)


# ---- what is asked of a tasktracker


@pytest_twisted.ensureDeferred
async def test_a_call_for_another_incarnation_is_stale(site):
    await site.jobtracker()
    tracker = await site.tasktracker()
    await joined(await site.client(), 1)
    verbs = TaskTrackerVerbs(tracker)
    calls = {
        "initJob": ("Job001", {}),
        "executeMap": ("Job001", {}),
        "shuffle": ("Job001", []),
        "reduce": ("Job001", {}),
        "killAttempt": ("Job001", "Map001.0"),
        "destroyJob": ("Job001", False),
        "listLogs": ("Job001",),
        "readLog": ("Job001", "Map001.0"),
        "followLogs": ("Job001", None, {}, False),
        "dropLogs": ("Job001",),
    }
    stale = [
        tracker.who | {"epoch": tracker.who["epoch"] + 1},
        tracker.who | {"tracker": "one.99"},
        {},
        None,
    ]

    def answer(verb: str, *args: Any) -> Any:
        return unpack(result_of(getattr(verbs, f"remote_{verb}")(*pack(args))))

    for verb, args in calls.items():
        for who in stale:
            kind, plain = answer(verb, who, *args)
            assert (kind, plain["code"]) == ("error", Stale.code), verb
        for job in ("../jobs", "Job٠٠١", "", None, 7):
            kind, plain = answer(verb, tracker.who, job, *args[1:])
            assert kind == "error", verb
            assert plain["code"] in (NotFound.code, PeerBroke.code), verb
    assert answer("ping") == ["ok", "pong"]
    for attempt in ("../../x", "Map001", "Map001.0/..", None):
        kind, plain = answer("readLog", tracker.who, "Job001", attempt)
        assert (kind, plain["code"]) == ("error", NotFound.code)


@pytest.mark.parametrize(
    "endpoint", ["", "tcp", "tcp:host", "tcp:host:port", "smoke:signals", "tcp:a:1:b=2"]
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_endpoint_cannot_be_connected_to(reactor, endpoint):
    with pytest.raises(BadConfiguration, match="is no endpoint") as caught:
        await soon(connect(reactor, endpoint, SECRET))
    assert repr(endpoint) in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_a_tracker_that_no_job_uses_is_shown_as_avoided(site):
    jobtracker = await site.jobtracker()
    await site.tasktracker()
    client = await site.client()
    await joined(client, 1)
    for job in ("Job001", "Job002"):
        jobtracker.cluster.blame.failed("one.1", job, jobtracker.plan.now())
    assert [one["avoided"] for one in await soon(client.call("trackers"))] == [True]


@pytest_twisted.ensureDeferred
async def test_a_client_with_another_secret_is_refused(site):
    await site.jobtracker()
    with pytest.raises(Refused):
        await soon(connect(site.reactor, site.endpoint, b"00" * 32))


@pytest_twisted.ensureDeferred
async def test_a_local_cluster_starts_where_a_unix_socket_would_have_too_long_a_path(
    reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    cluster = LocalCluster(reactor, 1)
    try:
        client = await cluster.start()
        assert cluster.endpoint.startswith("tcp:127.0.0.1:")
        assert await client.call("ping") == "pong"
    finally:
        await cluster.stop()
    assert list(deep.iterdir()) == []
