"""A function in a process of its own: whoever calls it outlives it, and learns how it ended."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any

from pytxmr.errors import WorkerDied

#: By the caller's path, on which what executors were sent is.
_PROGRAM = (
    "import sys; sys.path[:] = {!r}; from pytxmr.runners import sparkapart; sparkapart.serve()"
)


def call_apart(
    result: str, env: Mapping[str, str], function: Callable[..., Any], *given: Any
) -> Any:
    """What a function of a module gives, called in a process of its own, which writes it to the
    file named ``result``. Its working directory, output and error are ours; it ends when we do.

    Raises `WorkerDied` if the process ends in any other way than by returning from the function.
    """
    program = _PROGRAM.format(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, env=os.environ | dict(env)
    ) as process:
        assert process.stdin is not None
        try:
            process.stdin.write(pickle.dumps((result, function, given)))
            process.stdin.flush()
            process.wait()  # with its standard input open: by its end it knows ours
        except BaseException:
            process.kill()
            raise
    status = process.returncode
    if status < 0:
        name = signal.Signals(-status).name if -status in list(signal.Signals) else "real-time"
        raise WorkerDied(f"the worker process was killed by signal {-status} ({name})")
    if status or not os.path.exists(result):
        middle = "" if status else " in the middle of the attempt"
        raise WorkerDied(f"the worker process exited with status {status}{middle}")
    with open(result, "rb") as file:
        return pickle.load(file)


def serve() -> None:
    """Be that process."""
    result, function, given = pickle.load(sys.stdin.buffer)
    caller = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def end_with_caller() -> None:
        os.read(caller, 1)
        os._exit(1)

    Thread(target=end_with_caller, daemon=True).start()
    returned = function(*given)
    with open(f"{result}.part", "wb") as file:
        pickle.dump(returned, file)
    os.rename(f"{result}.part", result)
