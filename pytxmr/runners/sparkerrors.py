"""What attempts on Spark that fail leave for the driver, and what that makes of it.

An attempt leaves its error, in JSON, beside its output: by what filesystem the output is written,
the error is. Of one whose process has died, Spark alone knows.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytxmr.errors import PytxmrError, WorkerDied, from_plain, to_plain
from pytxmr.model import MAP, REDUCE, AttemptId, InputSplit, TaskId
from pytxmr.records.remote import is_remote, own_filesystem
from pytxmr.records.upload import send

if TYPE_CHECKING:
    from pyspark import SparkContext

SUFFIX = ".error"
#: Attempts of a stage that are looked at.
_MOST_FAILED = 100_000


def leave_error(path: str, error: PytxmrError) -> None:
    """Leave an attempt's error there, as far as that can be done."""
    data = json.dumps(to_plain(error), default=str).encode()
    # If the place is not to be seen here, or the job was ended, Spark tells what it can.
    with suppress(OSError, PytxmrError):
        if is_remote(path):
            send(io.BytesIO(data), path)
            return
        with open(f"{path}.part", "wb") as file:
            file.write(data)
        os.rename(f"{path}.part", path)


def errors_left(place: str, task: TaskId) -> int:
    """How many attempts of a task have left their errors there."""
    names: list[str] = []
    with suppress(Exception):  # then none, as far as can be seen
        if is_remote(place):
            with own_filesystem(place) as (filesystem, path):
                found = filesystem.ls(path.rstrip("/"), detail=False)
                names = [name.rpartition("/")[2] for name in found]
        else:
            names = os.listdir(place)
    return sum(name.startswith(f"{task}.") and name.endswith(SUFFIX) for name in names)


class Failures:
    """Of the attempts of one job, those that have failed. ``place`` is the directory, or the URL of
    one, where they leave their errors."""

    def __init__(self, place: str, max_attempts: int, splits: list[InputSplit]) -> None:
        self._place = place
        self._max_attempts = max_attempts
        self._splits = splits
        self._errors: dict[str, PytxmrError] = {}

    def look(self) -> None:
        """Read what has been left since the last time."""
        with suppress(Exception):  # a server that is away is asked again
            if is_remote(self._place):
                self._look_behind_url()
            else:
                for name in self._new(os.listdir(self._place)):
                    with open(os.path.join(self._place, name), "rb") as file:
                        self._take(name, file.read())

    def _look_behind_url(self) -> None:
        with own_filesystem(self._place) as (filesystem, path):
            path = path.rstrip("/")
            found = filesystem.ls(path, detail=False)
            for name in self._new(one.rpartition("/")[2] for one in found):
                self._take(name, filesystem.cat_file(f"{path}/{name}", start=0, end=None))

    def _new(self, names: Any) -> Iterator[str]:
        return (name for name in names if name.endswith(SUFFIX) and name not in self._errors)

    def _take(self, name: str, data: bytes) -> None:
        with suppress(ValueError):  # it is just being written
            self._errors[name] = from_plain(json.loads(data))

    def final(self) -> PytxmrError | None:
        """The failure that no other try can mend, if there is one."""
        for error in self._errors.values():
            if error.details.get("final"):
                return self._told(error, sum(error.details["task"] == one for one in self._tasks()))
        return None

    def _tasks(self) -> list[str]:
        return [error.details["task"] for error in self._errors.values()]

    def exhausted(self, context: SparkContext, group: str) -> PytxmrError | None:
        """The failure of the task that has failed too often, if that is why Spark has given up."""
        stages: list[dict[int, list[int]]] = []
        # Its store is made for its own pages, and may change: without it, Spark says what it can.
        with suppress(Exception):
            stages = list(_failed_attempts(context, group))
        for kind, attempts in zip((MAP, REDUCE), stages, strict=False):
            for index, numbers in attempts.items():
                if len(numbers) >= self._max_attempts:
                    task = TaskId(kind, index)
                    left = [self._errors.get(f"{AttemptId(task, n)}{SUFFIX}") for n in numbers]
                    told = [error for error in left if error is not None]
                    error = told[-1] if told else self._death(task)
                    return self._told(error, len(numbers))
        return None

    def _death(self, task: TaskId) -> PytxmrError:
        error = WorkerDied("the worker process died", task=str(task))
        if task.kind == MAP:
            error.details["split"] = str(self._splits[task.index])
        return error

    @staticmethod
    def _told(error: PytxmrError, times: int) -> PytxmrError:
        often = "once" if times == 1 else f"{times} times"
        told = PytxmrError(f"{error.details['task']} failed {often}: {error.message}")
        told.details = error.details
        return told


def _failed_attempts(context: SparkContext, group: str) -> Iterator[dict[int, list[int]]]:
    """Of each stage, the tasks of which attempts have failed, and Spark's numbers of these, in
    order. Only of the stage's last attempt: one that could not fetch ends that, and is no failure
    of its own."""
    jvm: Any = context._jvm
    store = context._jsc.sc().statusStore()
    api = jvm.org.apache.spark.status.api.v1
    failed = jvm.java.util.ArrayList()
    failed.add(api.TaskStatus.FAILED)
    tracker = context.statusTracker()
    for number in tracker.getJobIdsForGroup(group):
        found = tracker.getJobInfo(number)
        for stage in sorted(found.stageIds) if found is not None else []:
            attempts: dict[int, list[int]] = {}
            last = store.lastStageAttempt(stage).attemptId()
            order = api.TaskSorting.ID
            tasks = store.taskList(stage, last, 0, _MOST_FAILED, order, failed)
            for at in range(tasks.size()):
                task = tasks.apply(at)
                attempts.setdefault(task.index(), []).append(task.taskId())
            yield {index: sorted(numbers) for index, numbers in attempts.items()}
