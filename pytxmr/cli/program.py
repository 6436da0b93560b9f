"""A job's class as a program: ``python wordcount.py INPUT... --output DIR``."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

from pytxmr.cli import end, run_parsed
from pytxmr.cli.options import build_program_parser, parse
from pytxmr.errors import BadJob


def end_as_program(cls: type, argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line of the class, and end the process. Raises `RuntimeError` when its module
    is only imported, as it is to run the job."""
    if cls.__module__ != "__main__":
        run = f"{cls.__name__}.run()"
        raise RuntimeError(f'{run} is for a program; put it under `if __name__ == "__main__":`')
    end(run_parsed(lambda: _parsed(cls, argv)))


def _parsed(cls: type, argv: Sequence[str] | None) -> Namespace:
    path = _file_of(cls)
    named = Namespace(command="run", job=f"{path}:{cls.__name__}")
    parser = build_program_parser(os.path.basename(path), _description(cls))
    return parse(parser, argv, named)


def _file_of(cls: type) -> str:
    """The file that a worker can load the class from. Raises `BadJob`."""
    module = sys.modules[cls.__module__]
    path = getattr(module, "__file__", None)
    if path is None or not path.endswith(".py"):
        raise BadJob(f"{cls.__name__}.run() wants {cls.__name__} to be in a file NAME.py")
    if getattr(module, cls.__name__, None) is not cls:
        raise BadJob(f"{cls.__name__}.run() wants a class at the top level of {path}")
    return os.fspath(path)


def _description(cls: type) -> str:
    from inspect import cleandoc

    text = cls.__doc__ or sys.modules[cls.__module__].__doc__ or ""
    return f"Run the job {cls.__name__}, here or on a cluster, and wait for its end.\n\n" + (
        cleandoc(text)
    )
