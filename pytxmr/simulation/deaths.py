"""How a job's own code ends the worker that it runs in, where that is no process."""

from __future__ import annotations

import os
from contextlib import suppress


class Death(BaseException):
    """The worker is gone. Whatever its code does as this unwinds, it has not done."""


class Life:
    """An attempt that `die` ends, for as long as this is entered. ``dead``: whether it has.

    What is looked at afterwards, the note of its records at ``note_path``, is left as it was then.
    """

    def __init__(self, note_path: str) -> None:
        self.dead = False
        self._note_path = note_path
        self._note = b""

    def end(self) -> None:
        if not self.dead:
            self.dead = True
            with suppress(OSError), open(self._note_path, "rb") as file:
                self._note = file.read()

    def __enter__(self) -> Life:
        _lives.append(self)
        return self

    def __exit__(self, *raised: object) -> None:
        _lives.pop()
        if self.dead and self._note:
            with open(self._note_path, "wb") as file:
                file.write(self._note)
        elif self.dead:
            with suppress(OSError):
                os.unlink(self._note_path)


#: That of the attempt that runs; in a serial run there is none, and nobody dies.
_lives: list[Life] = []


def mortal() -> bool:
    return bool(_lives)


def die() -> None:
    """End this worker; in a serial run, raise what makes the record a bad one."""
    if not _lives:
        raise ValueError("a worker would die here")
    _lives[-1].end()
    raise Death
