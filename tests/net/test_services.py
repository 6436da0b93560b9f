"""Jobtracker and tasktracker in this process: they find each other, part, and leave nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from sites import SECRET, WORDCOUNT, ended, endless, joined, noted, trackers
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.spread import pb
from wires import (
    MemoryEndpoint,
    Mute,
    Scripted,
    await_death,
    is_alive,
    result_of,
    serve,
    soon,
    turns,
    until,
)

from pytxmr import joblife
from pytxmr.client import connect, new_owner, submit
from pytxmr.errors import (
    BadConfiguration,
    BadInput,
    NotFound,
    PeerBroke,
    PytxmrError,
    Refused,
    Stale,
    Unreachable,
)
from pytxmr.joblife import JobLife
from pytxmr.jobtracker import JobTracker, JobTrackerConfig
from pytxmr.model import FileRange, InputSplit
from pytxmr.net.login import log_in
from pytxmr.net.remote import Peer, answering, pack, unpack
from pytxmr.runners.local import LocalCluster
from pytxmr.storage.output import OutputDirectory
from pytxmr.submission import Submission
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
    lost = jobtracker._peers[before]
    lost.disconnect()
    await soon(until(lambda: jobtracker._peers.get(before, lost) is not lost))
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
    lost = jobtracker._peers[before]
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
async def test_an_output_that_cannot_be_marked_is_refused_and_leaves_nothing(site, monkeypatch):
    def fail(output, owner):
        raise PytxmrError("no space left")

    monkeypatch.setattr(OutputDirectory, "mark", fail)
    await site.jobtracker()
    client = await site.client()
    with pytest.raises(PytxmrError, match="no space left"):
        await soon(submit(client, site.spec()))
    assert not (site.directory / "job.output").exists()
    assert await soon(client.call("jobs")) == []


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


# ---- what is asked of the jobtracker


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda plain: {k: v for k, v in plain.items() if k != name}


def with_code(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda plain: plain | {"code": plain["code"] | changes}


BAD_SPECS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nothing": lambda plain: None,
    "a list": lambda plain: [],
    "an empty dict": lambda plain: {},
    "no name": without("name"),
    "no code": without("code"),
    "no inputs": without("inputs"),
    "no output": without("output"),
    "bytes for a name": lambda plain: plain | {"name": b"x"},
    "a number for code": lambda plain: plain | {"code": 7},
    "another digest": with_code(digest="00" * 32),
    "other source": with_code(source=b"import os\n"),
    "text for source": with_code(source="def mapper"),
    "a number for a class": with_code(class_name=1),
    "text for inputs": lambda plain: plain | {"inputs": "/etc/passwd"},
    "numbers for inputs": lambda plain: plain | {"inputs": [1, 2]},
    "None for output": lambda plain: plain | {"output": None},
    "no reducers": lambda plain: plain | {"reducers": 0},
    "too many reducers": lambda plain: plain | {"reducers": 100_001},
    "half a reducer": lambda plain: plain | {"reducers": 0.5},
    "True reducers": lambda plain: plain | {"reducers": True},
    "negative splits": lambda plain: plain | {"split_bytes": -1},
    "splits of nothing": lambda plain: plain | {"split_bytes": 0},
    "no attempts": lambda plain: plain | {"max_attempts": 0},
    "text for keep": lambda plain: plain | {"keep": "yes"},
    "text for a sample": lambda plain: plain | {"key_sample": "x"},
    "a list of params": lambda plain: plain | {"params": []},
}


@pytest_twisted.ensureDeferred
async def test_a_submission_of_bad_values_is_refused_and_takes_nothing(site):
    jobtracker = await site.jobtracker()
    client = await site.client()
    good = site.spec().to_plain()
    for kind, change in BAD_SPECS.items():
        with pytest.raises(PeerBroke):
            pytest.fail(f"{kind}: {await soon(client.call('submit', change(good), OWNER))}")
    for owner in ("", "me", "A" * 32, "0" * 33, 7, None):
        with pytest.raises(PeerBroke):
            await soon(client.call("submit", good, owner))
    assert jobtracker.lives == {}
    assert not os.path.exists(good["output"])
    assert await soon(client.call("submit", good, new_owner())) == "Job001"


OWNER = "0123456789abcdef" * 2


@pytest_twisted.ensureDeferred
async def test_a_submission_may_be_repeated_and_is_one_job(site):
    await site.jobtracker()
    client = await site.client()
    spec, other = site.spec(), site.spec(name="other")
    answers = [submit(client, spec, OWNER) for _ in range(3)]
    assert [await soon(answer) for answer in answers] == ["Job001"] * 3
    assert await soon(submit(client, other, new_owner())) == "Job002"
    assert await soon(submit(client, spec, OWNER)) == "Job001"
    assert len(await soon(client.call("jobs"))) == 2


@pytest_twisted.ensureDeferred
async def test_a_submission_that_was_refused_may_be_made_again(site):
    await site.jobtracker()
    client = await site.client()
    spec = site.spec()
    os.mkdir(spec.output)
    answers = [submit(client, spec, OWNER) for _ in range(2)]
    for answer in answers:
        with pytest.raises(BadInput, match="exists already"):
            await soon(answer)
    os.rmdir(spec.output)
    assert await soon(submit(client, spec, OWNER)) == "Job001"


@pytest_twisted.ensureDeferred
async def test_input_and_output_that_cannot_be_used_are_refused_before_there_is_a_job(site):
    await site.jobtracker()
    client = await site.client()
    good = site.spec().to_plain()
    with pytest.raises(BadInput):
        await soon(client.call("submit", good | {"inputs": ["/no/such/file"]}, new_owner()))
    assert not os.path.exists(good["output"])
    os.mkdir(good["output"])
    with pytest.raises(BadInput, match="exists already"):
        await soon(client.call("submit", good, new_owner()))
    os.rmdir(good["output"])
    assert await soon(client.call("submit", good, new_owner())) == "Job001"
    with pytest.raises(BadInput, match="exists already"):
        await soon(client.call("submit", good, new_owner()))


@pytest_twisted.ensureDeferred
async def test_of_what_there_is_not_clients_are_told_so(site):
    await site.jobtracker()
    client = await site.client()
    for verb, args in {
        "status": (),
        "wait": (0.1,),
        "kill": ("why",),
        "destroy": (),
        "logs": (None, False),
    }.items():
        for job in ("Job001", "../Job001", "Job٠٠١", None, 7, ["Job001"]):
            with pytest.raises(NotFound):
                await soon(client.call(verb, job, *args))
    assert await soon(client.call("jobs")) == []


# ---- trackers, by hand and by the clock


class Mind(pb.Referenceable):
    @answering
    def remote_ping(self) -> str:
        return "pong"


class ByHand:
    """A jobtracker on a reactor in memory, to which trackers are connected in memory."""

    def __init__(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        config = JobTrackerConfig("tcp:0:interface=127.0.0.1", SECRET, lease_seconds=10.0)
        self.jobtracker = JobTracker(self.reactor, config)
        result_of(Deferred.fromCoroutine(self.jobtracker.open()))
        self.jobtracker.startService()
        self._ends: list[MemoryEndpoint] = []

    def turn(self, seconds: float = 0.0) -> None:
        self.reactor.advance(seconds)
        for end in self._ends:
            end.flush()
        self.reactor.advance(0)
        for end in self._ends:
            end.flush()

    def log_in(
        self, role: str = "tasktracker", mind: pb.Referenceable | None = None
    ) -> tuple[Peer, MemoryEndpoint]:
        end = MemoryEndpoint(self.reactor.tcpServers[0][1])
        self._ends.append(end)
        login = Deferred.fromCoroutine(
            log_in(end, role, SECRET, mind or Mind(), self.reactor, "the jobtracker")
        )
        self.turn()
        return result_of(login), end

    def call(self, peer: Peer, verb: str, *args: Any) -> Any:
        answer = peer.call(verb, *args)
        self.turn()
        return result_of(answer)

    def add_job(self, spec: Any, maps: int, files: int = 1) -> JobLife:
        """Queue a job without a look at its input; each map is to read so many files."""
        jobtracker = self.jobtracker
        splits = [InputSplit((FileRange("/input", n, n + 1),) * files) for n in range(maps)]
        submission = Submission(1, replace(spec, reducers=1), splits, "", b"key", 0.0)
        life = jobtracker._begin(submission)
        jobtracker.feed(submission.event())
        self.turn()
        return life

    def register(self, peer: Peer, **card: Any) -> dict[str, Any]:
        """Register; returns who one is then."""
        whole = {"name": "one", "workers": 2, "host": "127.0.0.1", "port": 8993}
        whole |= {"was": None, "jobs": []} | card
        return self.call(peer, "register", whole)["who"]

    @property
    def trackers(self) -> list[str]:
        return [one["tracker"] for one in self.jobtracker.trackers()]

    def close(self) -> None:
        result_of(Deferred.fromCoroutine(self.jobtracker.stopService()))


class Asked(Mind):
    """A tracker that takes what it is asked to do, and remembers it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self.error: PytxmrError | None = None

    def taken(self) -> list[tuple[str, list[Any]]]:
        """What was asked since, each with the attempts that it is about."""
        found, self.calls = self.calls, []
        return found

    def _take(self, verb: str, tasks: list[dict[str, Any]]) -> None:
        self.calls.append((verb, [task["attempt"] for task in tasks]))
        if self.error is not None:
            raise self.error

    @answering
    def remote_initJob(self, who: Any, job: Any, setup: Any) -> None:
        pass

    @answering
    def remote_executeMap(self, who: Any, job: Any, tasks: Any) -> None:
        self._take("executeMap", tasks)

    @answering
    def remote_shuffle(self, who: Any, job: Any, wanted: Any) -> None:
        self._take("shuffle", wanted)

    @answering
    def remote_reduce(self, who: Any, job: Any, tasks: Any) -> None:
        self._take("reduce", tasks)

    @answering
    def remote_killAttempt(self, who: Any, job: Any, attempt: Any) -> None:
        self.calls.append(("killAttempt", [attempt]))

    @answering
    def remote_destroyJob(self, who: Any, job: Any, keep: Any) -> None:
        self._take("destroyJob", [])


def fact(kind: str, attempt: str, **more: Any) -> dict[str, Any]:
    return {"fact": kind, "job": "Job001", "attempt": attempt, "counters": {}, "digest": ""} | more


FINAL = {"code": "attempt-failed", "message": "bad record", "details": {"final": True}}


@pytest.fixture
def by_hand() -> Any:
    made = ByHand()
    yield made
    made.close()


def test_a_lease_is_renewed_by_heartbeats_and_ends_without(by_hand):
    peer, end = by_hand.log_in()
    who = by_hand.register(peer)
    assert by_hand.trackers == [who["tracker"]]
    for _ in range(10):
        by_hand.turn(9.0)
        assert by_hand.call(peer, "heartbeat", who, []) is None
    assert by_hand.trackers == [who["tracker"]]
    for _ in range(9):
        by_hand.turn(1.0)
    assert by_hand.trackers == [who["tracker"]]
    by_hand.turn(1.0)
    by_hand.turn(1.0)
    assert by_hand.trackers == []
    assert end.client_transport.disconnected


def test_one_that_connects_again_in_time_is_the_incarnation_that_it_was(by_hand):
    peer, end = by_hand.log_in()
    who = by_hand.register(peer)
    by_hand.turn(1.0)
    again, _ = by_hand.log_in()
    assert by_hand.register(again, was=who) == who
    assert end.client_transport.disconnected
    by_hand.turn(1.0)
    by_hand.turn(1.0)
    assert by_hand.trackers == [who["tracker"]]
    assert by_hand.call(again, "heartbeat", who, []) is None


def test_one_that_was_lost_is_another_incarnation(by_hand):
    peer, _ = by_hand.log_in()
    who = by_hand.register(peer)
    peer.disconnect()
    for _ in range(3):
        by_hand.turn(1.0)
    assert by_hand.trackers == []
    again, _ = by_hand.log_in()
    after = by_hand.register(again, was=who)
    assert after != who
    for stale in (who | {"epoch": 0}, {"tracker": after["tracker"]}, {}):
        third, _ = by_hand.log_in()
        assert by_hand.register(third, was=stale)["tracker"] != after["tracker"]


def test_who_is_not_a_live_incarnation_is_stale(by_hand):
    peer, _ = by_hand.log_in()
    who = by_hand.register(peer)
    for stale in (
        who | {"epoch": who["epoch"] + 1},
        who | {"epoch": None},
        who | {"tracker": "one.99"},
        who | {"tracker": "../one.1"},
        who | {"more": 1},
        {"tracker": who["tracker"]},
    ):
        for verb, args in {"heartbeat": ([],), "report": ([],), "unregister": ()}.items():
            with pytest.raises(Stale):
                by_hand.call(peer, verb, stale, *args)
    for nonsense in (None, [], {}, {"tracker": 1}, "one.1"):
        with pytest.raises(PeerBroke):
            by_hand.call(peer, "heartbeat", nonsense, [])
    assert by_hand.call(peer, "heartbeat", who, []) is None


def test_the_next_incarnation_replaces_the_one_before(by_hand):
    first, first_end = by_hand.log_in()
    before = by_hand.register(first)
    second, _ = by_hand.log_in()
    after = by_hand.register(second)
    assert by_hand.trackers == [after["tracker"]]
    assert before["tracker"] != after["tracker"]
    assert first_end.client_transport.disconnected
    with pytest.raises(Stale):
        by_hand.call(second, "heartbeat", before, [])


def test_one_that_unregisters_is_gone_at_once(by_hand):
    peer, end = by_hand.log_in()
    who = by_hand.register(peer)
    answer = peer.call("unregister", who)
    by_hand.turn()
    assert by_hand.trackers == []
    assert end.client_transport.disconnected
    assert answer.called
    answer.addErrback(lambda failure: failure.trap(Unreachable))


@pytest.mark.parametrize(
    "card",
    [
        {"name": ""},
        {"name": "../one"},
        {"name": "one\n"},
        {"name": "x" * 101},
        {"name": "öne"},
        {"name": 1},
        {"name": None},
        {"workers": 0},
        {"workers": -1},
        {"workers": 5000},
        {"workers": "2"},
        {"workers": True},
        {"host": None},
        {"port": "8993"},
    ],
    ids=str,
)
def test_a_card_that_is_not_a_tracker_s_is_refused(by_hand, card):
    peer, _ = by_hand.log_in()
    with pytest.raises(PeerBroke):
        by_hand.register(peer, **card)
    assert by_hand.trackers == []


def test_a_client_is_no_tracker_and_a_tracker_no_client(by_hand, logged):
    client, _ = by_hand.log_in("client")
    with pytest.raises(PytxmrError):
        by_hand.register(client)
    tracker, _ = by_hand.log_in()
    for verb in ("submit", "jobs", "kill"):
        with pytest.raises(PytxmrError):
            by_hand.call(tracker, verb)
    logged.flush()


@pytest.mark.parametrize(
    "fact",
    [
        None,
        {},
        {"job": "Job001"},
        {"job": "Job001", "attempt": "Map001.0", "fact": "nonsense"},
        {"job": "../Job", "attempt": "Map001.0", "fact": "fetched", "partitions": [0]},
        {"job": "Job001", "attempt": "Map001", "fact": "fetched", "partitions": [0]},
        {"job": "Job001", "attempt": "Map001.0", "fact": "fetched"},
    ],
)
def test_a_report_that_is_none_is_refused(by_hand, fact):
    peer, _ = by_hand.log_in()
    who = by_hand.register(peer)
    with pytest.raises((PeerBroke, NotFound)):
        by_hand.call(peer, "report", who, [fact])


def test_facts_of_unknown_jobs_change_nothing(by_hand):
    peer, _ = by_hand.log_in()
    who = by_hand.register(peer)
    fact = {"job": "Job001", "attempt": "Map001.0", "fact": "fetched", "partitions": [0]}
    assert by_hand.call(peer, "report", who, [fact]) is None
    assert by_hand.trackers == [who["tracker"]]


def test_what_a_report_gives_a_tracker_to_do_is_asked_for_in_one_call_a_verb(by_hand, site):
    asked = Asked()
    peer, _ = by_hand.log_in(mind=asked)
    who = by_hand.register(peer)
    by_hand.add_job(site.spec(), maps=5)
    assert asked.taken() == [("executeMap", ["Map001.0", "Map002.0"])]
    done = [fact("map-succeeded", f"Map00{n}.0", partition_bytes=[1]) for n in (1, 2)]
    by_hand.call(peer, "report", who, done)
    assert asked.taken() == [
        ("executeMap", ["Map003.0", "Map004.0"]),
        ("shuffle", ["Map001.0", "Map002.0"]),
    ]
    done = [fact("map-succeeded", f"Map00{n}.0", partition_bytes=[1]) for n in (3, 4)]
    by_hand.call(peer, "report", who, done)
    done = [fact("map-succeeded", "Map005.0", partition_bytes=[1])]
    done += [fact("fetched", f"Map00{n}.0", partitions=[0]) for n in range(1, 6)]
    asked.taken()
    by_hand.call(peer, "report", who, done)
    assert asked.taken() == [("reduce", ["Reduce000.0"]), ("shuffle", ["Map005.0"])]
    by_hand.call(peer, "report", who, [fact("attempt-failed", "Reduce000.0", error=FINAL)])
    assert asked.taken() == [("destroyJob", [])]


def test_a_call_does_not_name_more_than_a_message_can_hold(by_hand, site, monkeypatch):
    monkeypatch.setattr(joblife, "MOST_NAMED", 5)
    asked = Asked()
    peer, _ = by_hand.log_in(mind=asked)
    who = by_hand.register(peer, workers=4)
    by_hand.add_job(site.spec(), maps=4, files=2)
    assert asked.taken() == [
        ("executeMap", ["Map001.0", "Map002.0"]),
        ("executeMap", ["Map003.0", "Map004.0"]),
    ]
    done = [fact("map-succeeded", f"Map00{n}.0", partition_bytes=[1]) for n in range(1, 5)]
    by_hand.call(peer, "report", who, done)
    assert asked.taken() == [
        ("shuffle", ["Map001.0", "Map002.0"]),
        ("shuffle", ["Map003.0", "Map004.0"]),
    ]
    done = [fact("fetched", f"Map00{n}.0", partitions=[0]) for n in range(1, 5)]
    by_hand.call(peer, "report", who, done)
    assert asked.taken() == [("reduce", ["Reduce000.0"])]
    by_hand.call(peer, "report", who, [fact("attempt-failed", "Reduce000.0", error=FINAL)])


def test_what_no_longer_counts_when_a_report_is_through_is_not_asked_for(by_hand, site):
    asked = Asked()
    peer, _ = by_hand.log_in(mind=asked)
    who = by_hand.register(peer)
    by_hand.add_job(site.spec(), maps=5)
    asked.taken()
    facts = [
        fact("map-succeeded", "Map001.0", partition_bytes=[1]),
        fact("attempt-failed", "Map002.0", error=FINAL),
    ]
    by_hand.call(peer, "report", who, facts)
    assert asked.taken() == [("destroyJob", [])]


def test_an_attempt_that_its_heartbeats_show_to_be_slow_is_run_elsewhere_and_killed(by_hand, site):
    minds = Asked(), Asked()
    peers = [by_hand.log_in(mind=mind)[0] for mind in minds]
    by_hand.add_job(site.spec(), maps=2)
    slow, quick = (
        by_hand.register(peer, name=name, workers=1)
        for peer, name in zip(peers, ("slow", "quick"), strict=True)
    )
    by_hand.turn()
    assert [mind.taken() for mind in minds] == [
        [("executeMap", ["Map001.0"])],
        [("executeMap", ["Map002.0"])],
    ]
    by_hand.call(
        peers[1], "report", quick, [fact("map-succeeded", "Map002.0", partition_bytes=[1])]
    )
    minds[1].taken()
    by_hand.call(peers[0], "heartbeat", slow, [["Job001", "Map001.0", 0.01, ""]])
    by_hand.turn(3.0)
    assert minds[1].taken() == [("executeMap", ["Map001.1"])]
    by_hand.call(
        peers[1], "report", quick, [fact("map-succeeded", "Map001.1", partition_bytes=[1])]
    )
    assert ("killAttempt", ["Map001.0"]) in minds[0].taken()
    fetched = [fact("fetched", name, partitions=[0]) for name in ("Map001.1", "Map002.0")]
    by_hand.call(peers[1], "report", quick, fetched)
    assert minds[1].taken()[-1] == ("reduce", ["Reduce000.0"])
    failed = fact("attempt-failed", "Reduce000.0", error=FINAL)
    by_hand.call(peers[1], "report", quick, [failed])


def test_if_a_call_to_start_attempts_fails_each_has_ended_badly(by_hand, site):
    asked = Asked()
    asked.error = NotFound("Job001 was not initialised here")
    peer, _ = by_hand.log_in(mind=asked)
    by_hand.register(peer)
    life = by_hand.add_job(site.spec(), maps=2)
    assert asked.taken() == [("executeMap", ["Map001.0", "Map002.0"])]
    for pause in (0.2, 0.4, 0.8):
        by_hand.turn(pause + 0.01)
    assert life.state.maps[0].failures == 4
    assert life.state.maps[1].failures >= 3
    assert life.state.error is not None
    assert "was not initialised here" in life.state.error.message


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


def test_an_attempt_that_failed_is_tried_again_after_its_pause_and_not_at_the_next_tick(
    by_hand, site
):
    asked = Asked()
    peer, _ = by_hand.log_in(mind=asked)
    who = by_hand.register(peer)
    by_hand.add_job(site.spec(), maps=1)
    assert asked.taken() == [("executeMap", ["Map001.0"])]
    error = {"code": "attempt-failed", "message": "no luck", "details": {}}
    by_hand.call(peer, "report", who, [fact("attempt-failed", "Map001.0", error=error)])
    assert asked.taken() == []
    by_hand.turn(0.21)
    assert asked.taken() == [("executeMap", ["Map001.1"])]
    by_hand.call(peer, "report", who, [fact("attempt-failed", "Map001.1", error=FINAL)])
