"""Which worker gets which task, by hand: without processes."""

from __future__ import annotations

from typing import Any

import pytest
from pools import Spawner
from twisted.internet.defer import Deferred
from wires import result_of

from pytxmr.errors import PytxmrError, WorkerDied
from pytxmr.net.workers import Setup, Task


def task(job: str = "Job001", attempt: str = "Map001.0") -> Task:
    setup = Setup({"id": job})
    return Task(job, attempt, {"attempt": attempt}, setup, lambda fraction, status: None)


def test_a_worker_that_is_being_killed_gets_no_other_task(spawner):
    pool = spawner.pool(1)
    first, second = pool.run(task()), pool.run(task(attempt="Map002.0"))
    (process,) = spawner.spawned
    pool.kill_attempt("Job001", "Map001.0", "not needed")
    assert process.killed
    process.answer({"done": {}})  # it had ended before the signal came
    spawner.advance(0)
    assert result_of(first) == {}
    assert process.heard == [{"job": {"id": "Job001"}}, {"attempt": "Map001.0"}]
    process.die()
    assert spawner.spawned[1].heard[-1] == {"attempt": "Map002.0"}
    spawner.spawned[1].answer({"done": {"a": 1}})
    assert result_of(second) == {"a": 1}


def test_a_worker_is_told_its_job_once_and_begins_the_next_task_at_once(spawner):
    pool = spawner.pool(1)
    for number in range(3):
        pool.run(task(attempt=f"Map00{number}.0"))
    (process,) = spawner.spawned
    process.answer({"done": {}})
    process.answer({"done": {}})
    assert process.heard == [
        {"job": {"id": "Job001"}},
        *({"attempt": f"Map00{number}.0"} for number in range(3)),
    ]


def test_an_idle_worker_makes_room_for_another_job(spawner):
    pool = spawner.pool(1)
    first = pool.run(task())
    spawner.spawned[0].answer({"done": {}})
    result_of(first)
    second = pool.run(task("Job002"))
    assert spawner.spawned[0].killed
    spawner.spawned[0].die()
    spawner.spawned[1].answer({"failed": {"code": "worker-died", "message": "x"}})
    with pytest.raises(WorkerDied):
        result_of(second)


def test_a_task_that_is_to_be_alone_has_a_worker_of_its_own(spawner):
    pool = spawner.pool(1)
    result_of_answer(spawner, pool.run(task()))
    alone = task(attempt="Map002.0")
    alone.alone = True
    second, third = pool.run(alone), pool.run(task(attempt="Map003.0"))
    assert spawner.spawned[0].killed
    spawner.spawned[0].die()
    assert spawner.spawned[1].heard[-1] == {"attempt": "Map002.0"}
    spawner.spawned[1].answer({"done": {}})
    assert result_of(second) == {}
    assert spawner.spawned[1].killed
    spawner.spawned[1].die()
    assert spawner.spawned[2].heard[-1] == {"attempt": "Map003.0"}
    spawner.spawned[2].answer({"done": {}})
    assert result_of(third) == {}
    assert not spawner.spawned[2].killed


def test_workers_that_die_blank_are_not_replaced_in_a_storm(spawner, logged):
    spawner.pool(2)
    spawner.spawned[0].die()
    assert len(spawner.spawned) == 2
    spawner.advance(1.0)
    assert len(spawner.spawned) == 3
    assert len(logged.flush()) == 1


def test_spares_are_spawned_when_a_job_ends(spawner):
    pool = spawner.pool(1)
    result_of_answer(spawner, pool.run(task()))
    pool.retire("Job001")
    spawner.spawned[0].die()
    assert len(spawner.spawned) == 2


def test_without_spares_a_worker_is_spawned_when_there_is_a_task_for_it(spawner):
    pool = spawner.pool(1, spares=False)
    result_of_answer(spawner, pool.run(task()))
    pool.retire("Job001")
    spawner.spawned[0].die()
    assert len(spawner.spawned) == 1
    answer = pool.run(task("Job002"))
    assert len(spawner.spawned) == 2
    result_of_answer(spawner, answer)


def test_without_spares_a_worker_that_died_is_replaced_for_a_task_that_waits(spawner):
    pool = spawner.pool(1, spares=False)
    first, second = pool.run(task()), pool.run(task(attempt="Map002.0"))
    spawner.spawned[0].die()
    with pytest.raises(WorkerDied):
        result_of(first)
    result_of_answer(spawner, second)


def result_of_answer(spawner: Spawner, answer: Deferred[Any]) -> None:
    """The latest worker answers."""
    spawner.spawned[-1].answer({"done": {}})
    assert result_of(answer) == {}


def test_errors_of_workers_arrive_as_themselves(spawner):
    pool = spawner.pool(1)
    ended = pool.run(task())
    plain = {"code": "uncarryable", "message": "no", "details": {"final": True}}
    spawner.spawned[0].answer({"failed": plain})
    with pytest.raises(PytxmrError, match="^no$") as caught:
        result_of(ended)
    assert caught.value.code == "uncarryable"
    assert caught.value.details == {"final": True}
