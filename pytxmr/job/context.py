"""What the user's functions see of the attempt they run in: parameters, counters, status.

There is one job per worker process and one attempt at a time, so module-level state is enough,
and the fastest thing that a mapper can call for every record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import index
from typing import Any

from pytxmr.errors import AttemptFailed
from pytxmr.job.names import nearest
from pytxmr.records.named import To

#: The job's parameters by name: the declared defaults, with those given by ``-D`` on top.
params: dict[str, Any] = {}

_side_files: dict[str, str] = {}
_counters: dict[str, int] = defaultdict(int)
_status: list[str] = [""]
#: None: no job is being worked for, as in somebody's own test of a reducer.
_outputs: list[frozenset[str] | None] = [None]
_listeners: list[Callable[[], None]] = []


def counter(name: str, n: int = 1) -> None:
    """Add ``n``, a whole number, to the job's counter ``name``. Only attempts whose result counts
    are summed. Raises `TypeError` for other numbers: count seconds as milliseconds.
    """
    # By the jobtracker, which takes nothing but ints, a float would be refused for ever.
    _counters[name] += index(n)


def status(text: str) -> None:
    """Say in a few words what this attempt is doing, 200 characters at the most; shown by
    ``pytxmr status``. To call it is progress, for ``--task-timeout``."""
    _status[0] = str(text)[:200]
    for listener in _listeners:
        listener()


def side_file(name: str) -> str:
    """The path of what ``--file PATH#NAME`` or ``--archive PATH#NAME`` has sent along: of a file,
    or of the directory that an archive was unpacked into.

    Also at the module's top level, and on the client. What is there is for reading only. Raises
    `FileNotFoundError` for a name that was not given.
    """
    if name not in _side_files:
        hint = nearest(name, _side_files)
        raise FileNotFoundError(f"no --file and no --archive has the name {name!r}{hint}")
    return _side_files[name]


def to(output: str, key: Any, value: Any = None) -> To:
    """What a reducer yields so that a pair goes to an output by name, which the job declares:
    ``outputs = ("errors", "late")``; also the mapper of a job without a reducer.

    ``key`` may be ``pytxmr.columns(...)``, many pairs. Raises for a name that is not declared.
    """
    declared = _outputs[0]
    if declared is not None and output not in declared:
        hint = nearest(str(output), declared)
        said = "" if hint else "; the job's last step declares them, as outputs = (...)"
        raise AttemptFailed(f"there is no output {output!r}{hint or said}", final=True)
    return To(output, key, value)


def on_status(listener: Callable[[], None]) -> None:
    """Call ``listener`` whenever the user's code sets the status."""
    _listeners.append(listener)


def begin_job(values: dict[str, Any]) -> None:
    """Set `params` for the job that this process works for."""
    params.clear()
    params.update(values)


def begin_side_files(paths: dict[str, str]) -> None:
    """Set where the side files of the job are that this process works for, by their names. Imports
    find what is in those that are environments; raises `BadJob` for one that cannot be used."""
    if paths or _side_files:
        from pytxmr.job import environments  # few jobs have side files

        environments.use(paths.values())
    _side_files.clear()
    _side_files.update(paths)


def begin_outputs(names: Iterable[str] | None) -> None:
    """Set which outputs by name `to` knows."""
    _outputs[0] = None if names is None else frozenset(names)


def begin_attempt() -> None:
    """Forget counters and status of the attempt before."""
    _counters.clear()
    _status[0] = ""


def counters() -> dict[str, int]:
    """The user's counters of this attempt so far."""
    return dict(_counters)


def signs() -> tuple[int, ...]:
    """Differs whenever something was counted; for another thread, at any time."""
    # Copied first, in one step: the dict may grow. Of what is no int, nothing is called.
    return tuple(count for count in tuple(_counters.values()) if type(count) is int)


def restore_counters(saved: dict[str, int]) -> None:
    """Let the counters be what `counters` gave."""
    _counters.clear()
    _counters.update(saved)


def uncounted(function: Callable[[Any], Iterable[Any]]) -> Callable[[Any], list[Any]]:
    """The function, as one that gives a list, and while it is made counts for nobody."""

    def run(items: Any) -> list[Any]:
        global _counters
        kept, _counters = _counters, defaultdict(int)
        try:
            return list(function(items))
        finally:
            _counters = kept

    return run


def current_status() -> str:
    return _status[0]


@contextmanager
def kept_aside() -> Iterator[None]:
    """Let a job run in a process that has other things to do: afterwards parameters, side files,
    outputs, counters and status are what they were."""
    before = dict(params), counters(), current_status(), dict(_side_files), _outputs[0]
    try:
        yield
    finally:
        begin_job(before[0])
        restore_counters(before[1])
        _status[0] = before[2]
        begin_side_files(before[3])
        begin_outputs(before[4])
