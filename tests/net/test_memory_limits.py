"""What a worker may take of time and memory: looked at by a clock that is set by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count

import pytest
import pytest_twisted
from pools import Site, Spawner
from twisted.internet.defer import Deferred
from wires import await_death, result_of, soon

from pytxmr.errors import AttemptFailed
from pytxmr.net import workers
from pytxmr.net.limits import SPARE_BYTES, Families, Limits, used_bytes
from pytxmr.net.spawn import COOKIE
from pytxmr.net.workers import Setup, Task, WorkerPool

MIB = 1 << 20
TEN_SECONDS = Limits(silent_seconds=10)
#: A little memory: 522 MiB may be used.
TEN_MIB = Limits(memory_bytes=10 * MIB)


@pytest.fixture
def used(monkeypatch) -> dict[str, int]:
    """What each worker uses, by the test's word: in bytes, by its process's id."""
    told: dict[str, int] = {}
    monkeypatch.setattr(
        workers, "used_bytes", lambda pids, limit: sum(told.get(pid, 0) for pid in pids)
    )
    return told


def task(limits: Limits, attempt: str = "Map001.0") -> Task:
    setup = Setup({"id": "Job001"}, limits)
    return Task("Job001", attempt, {"attempt": attempt}, setup, lambda fraction, status: None)


def pass_seconds(spawner: Spawner, seconds: int) -> None:
    spawner.pump([1.0] * seconds)


# ---- silence


def test_an_attempt_that_is_silent_for_the_task_timeout_is_ended(spawner):
    pool = spawner.pool(1)
    ended = pool.run(task(TEN_SECONDS))
    (process,) = spawner.spawned
    pass_seconds(spawner, 10)
    assert not process.killed
    pass_seconds(spawner, 1)
    assert process.killed
    process.die()
    with pytest.raises(
        AttemptFailed, match="was ended: no progress for 10 s; --task-timeout sets the limit"
    ):
        result_of(ended)


def test_an_attempt_that_is_heard_of_goes_on(spawner):
    pool = spawner.pool(1)
    ended = pool.run(task(TEN_SECONDS))
    (process,) = spawner.spawned
    for _ in range(10):
        pass_seconds(spawner, 9)
        process.answer({"progress": 0.0, "status": ""})
    assert not process.killed
    process.answer({"done": {}})
    assert result_of(ended) == {}


def test_each_attempt_has_the_whole_task_timeout(spawner):
    pool = spawner.pool(1)
    pool.run(task(TEN_SECONDS))
    (process,) = spawner.spawned
    pass_seconds(spawner, 9)
    process.answer({"done": {}})
    pass_seconds(spawner, 100)
    assert not process.killed, "an idle worker may be silent"
    pool.run(task(TEN_SECONDS, "Map002.0"))
    pass_seconds(spawner, 10)
    assert not process.killed


def test_a_task_timeout_of_0_is_none(spawner):
    spawner.pool(1).run(task(Limits()))
    pass_seconds(spawner, 1000)
    assert not spawner.spawned[0].killed


def test_a_tracker_that_stood_still_does_not_take_that_for_silence(spawner):
    spawner.pool(1).run(task(TEN_SECONDS))
    pass_seconds(spawner, 1)
    spawner.advance(3600)
    assert not spawner.spawned[0].killed


def test_nothing_is_looked_at_before_a_job_comes_and_after_it_has_gone(spawner):
    pool = spawner.pool(1)
    assert spawner.getDelayedCalls() == []
    pool.run(task(TEN_SECONDS)).addErrback(lambda failure: None)
    assert len(spawner.getDelayedCalls()) == 1
    pool.retire("Job001")
    spawner.spawned[0].die()
    assert spawner.getDelayedCalls() == []


# ---- memory


def test_limits_leave_room_above_what_is_planned_by():
    assert Limits(memory_bytes=64 * MIB).most_bytes == 64 * MIB + SPARE_BYTES
    assert Limits(memory_bytes=4096 * MIB).most_bytes == 8192 * MIB
    assert Limits().most_bytes == Limits().data_bytes == 0


def test_a_worker_that_takes_more_than_the_limit_is_ended_with_the_limit_and_the_use(spawner, used):
    pool = spawner.pool(1)
    ended = pool.run(task(TEN_MIB))
    (process,) = spawner.spawned
    used[str(process.pid)] = 522 * MIB
    pass_seconds(spawner, 1)
    assert not process.killed
    used[str(process.pid)] = 523 * MIB
    pass_seconds(spawner, 1)
    assert process.killed
    process.die()
    with pytest.raises(AttemptFailed) as caught:
        result_of(ended)
    assert "used 523 MiB of memory, the limit is 522 MiB; --memory, here 10 MiB, sets" in str(
        caught.value
    )


def test_a_worker_between_two_tasks_is_ended_too_and_gets_no_other(spawner, used):
    pool = spawner.pool(1)
    pool.run(task(TEN_MIB))
    (process,) = spawner.spawned
    process.answer({"done": {}})
    used[str(process.pid)] = 523 * MIB
    pass_seconds(spawner, 1)
    assert process.killed
    later = pool.run(task(TEN_MIB, "Map002.0"))
    used.clear()
    process.die()
    spawner.spawned[1].answer({"done": {}})
    assert result_of(later) == {}


# ---- whose memory it is, and how much


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a worker's cookie, in a session of its own, that holds 64 MiB twice forked."""
    made = subprocess.Popen(
        [sys.executable, "-c", _HOLDER],
        env=os.environ | {COOKIE: "c0ffee"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert made.stdin is not None
    assert made.stdout is not None
    with made, made.stdin, made.stdout:
        made.stdout.readline()
        yield made


_HOLDER = """\
import os
held = b"x" * (64 << 20)
ready, forked = os.pipe()
until_the_end, end = os.pipe()
if os.fork():
    os.close(until_the_end)
    os.read(ready, 1)
    print(flush=True)
    os.read(0, 1)
else:
    os.close(end)
    held.count(b"y")
    os.write(forked, b".")
    os.read(until_the_end, 1)
"""


def test_processes_are_found_by_their_worker_s_cookie(child):
    families = Families()
    for _ in range(2):
        family = families.found()["c0ffee"]
        assert str(child.pid) in family
        assert len(family) == 2
    assert str(os.getpid()) not in family


def test_a_process_that_is_gone_is_no_longer_found(child):
    families = Families()
    family = families.found()["c0ffee"]
    for pid in family:
        os.kill(int(pid), 9)
    child.wait()
    assert all(await_death(int(pid)) for pid in family)
    assert not set(families.found().get("c0ffee", ())) - _zombies(family)


def _zombies(pids: list[str]) -> set[str]:
    return {pid for pid in pids if os.path.exists(f"/proc/{pid}")}


def test_what_processes_share_counts_once_where_it_decides(child):
    family = Families().found()["c0ffee"]
    assert 128 * MIB < used_bytes(family, 1024 * MIB) < 192 * MIB
    assert 64 * MIB < used_bytes(family, 100 * MIB) < 96 * MIB
    assert 64 * MIB < used_bytes(family[:1], 10 * MIB) < 96 * MIB


def test_of_a_process_that_is_not_there_nothing_is_used():
    assert used_bytes([str(1 << 30)], 0) == 0


# ---- what a worker lets hear of itself


async def is_heard_of(pool: WorkerPool, task: Task, times: int = 3) -> None:
    """Run a task until it has been heard of several times, then end it."""
    enough: Deferred[None] = Deferred()
    heard = count(1)

    def hear(fraction: float, status: str) -> None:
        if next(heard) == times:
            enough.callback(None)

    task.progress = hear
    ended = pool.run(task)
    await soon(enough)
    pool.kill_attempt(task.job, task.attempt, "enough")
    with pytest.raises(AttemptFailed, match="enough"):
        await soon(ended)


MAPPER = """
import itertools, pytxmr, time
def mapper(key, value):
    for number in itertools.count():
        time.sleep(0.01)
        {step}
    yield
def reducer(key, values):
    yield key, 1
"""


@pytest.mark.parametrize(
    "step", ["yield key, 1", "pytxmr.counter('steps')", "pytxmr.status('the same')"]
)
@pytest_twisted.ensureDeferred
async def test_a_mapper_that_is_long_over_one_record_is_heard_of_by(pool, tmp_path, step):
    await is_heard_of(pool, Site(tmp_path).map_task("one\n", MAPPER.format(step=step)))


@pytest_twisted.ensureDeferred
async def test_a_mapper_that_takes_long_for_each_record_is_heard_of(pool, tmp_path):
    source = MAPPER.replace("itertools.count()", "range(10)").format(step="pass")
    await is_heard_of(pool, Site(tmp_path).map_task("line\n" * 100_000, source))


REDUCER = """
import time
def mapper(key, value):
    for number in range(5000):
        yield "the key", number
def reducer(key, values):
    {body}
    yield
"""


@pytest.mark.parametrize(
    "body",
    [
        "[time.sleep(0.01) for value in values]",
        "for value in range(5000): yield time.sleep(0.01), value",
    ],
    ids=["reads", "yields"],
)
@pytest_twisted.ensureDeferred
async def test_a_reducer_that_is_long_over_one_group_is_heard_of_when_it(pool, tmp_path, body):
    site = Site(tmp_path)
    mapped = site.map_task("one\n", REDUCER.format(body=body))
    done = await soon(pool.run(mapped))
    message = {
        "do": "reduce",
        "segments": [[mapped.message["spill_path"], 8, done["partition_bytes"][0]]],
        "output_path": str(tmp_path / "part"),
        "scratch": str(tmp_path / "scratch"),
        "log": str(site.log("Job001", "Reduce000.0")),
    }
    task = Task("Job001", "Reduce000.0", message, mapped.setup, lambda fraction, status: None)
    await is_heard_of(pool, task)


@pytest_twisted.ensureDeferred
async def test_one_huge_allocation_is_an_error_of_the_user_s_code_that_names_the_limit(
    pool, tmp_path
):
    source = "def mapper(key, value):\n    yield key, bytes(1 << 40)\nreducer = mapper\n"
    site = Site(tmp_path)
    with pytest.raises(AttemptFailed) as caught:
        await soon(pool.run(site.map_task("one\n", source)))
    assert "the mapper raised MemoryError" in str(caught.value)
    assert "(a process may reserve 4096 MiB; --memory, here 64 MiB, sets it)" in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_a_worker_cannot_reserve_more_than_its_data_limit(pool, tmp_path):
    source = (
        "import resource\ndef mapper(key, value):\n"
        "    yield 'limit', resource.getrlimit(resource.RLIMIT_DATA)[0]\n"
        "    try:\n        held = bytearray(4 << 30)\n"
        "    except MemoryError:\n        yield 'refused', 1\n"
        "reducer = mapper\n"
    )
    site = Site(tmp_path)
    task = site.map_task("one\n", source)
    await soon(pool.run(task))
    assert dict(site.pairs(task)) == {"limit": 1 << 32, "refused": 1}
