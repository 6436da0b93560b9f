"""The ``pytxmr`` command."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from argparse import Namespace

    from pytxmr.cli.report import Face


def command(face: Face | None = None) -> NoReturn:
    """Run the process's own command line, and end the process. What there is to tell of a job goes
    to ``face``: by default to the terminal."""
    end(main(face=face))


def end(status: int) -> NoReturn:
    """End the process, whose output is written, with that exit status."""
    atexit._run_exitfuncs()
    sys.stderr.flush()
    # Python would take hundreds of modules apart first, which takes a tenth of a small job's time.
    os._exit(status)


def main(argv: Sequence[str] | None = None, face: Face | None = None) -> int:
    """Run a command line (default: the process's own); returns the exit status.

    0: the job succeeded, or the question was answered; 1: the job failed; 2: the command line, the
    job module, the input or the cluster is wrong, said before anything ran; 130: interrupted;
    141: nobody reads the output.
    """
    from pytxmr.cli.options import build_parser, parse

    return run_parsed(lambda: parse(build_parser(), argv), face)


def run_parsed(parse: Callable[[], Namespace], face: Face | None = None) -> int:
    """Run the command line that ``parse`` gives; returns the exit status, as `main` does."""
    try:
        status = _run(parse, face)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone. Python flushes once more at its end, and must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(parse: Callable[[], Namespace], face: Face | None) -> int:
    from pytxmr.cli.options import settle_runner
    from pytxmr.cli.report import Terminal
    from pytxmr.errors import JobFailed, PytxmrError
    from pytxmr.net.spawn import spawn_worker

    face = face or Terminal()
    try:
        options = parse()
        options.face = face
        if options.command == "run":
            settle_runner(options)
            options.spawned = []
        if options.command == "run" and options.runner == "local":
            # They get ready while Twisted is imported, which takes longer, and has a core for
            # itself: where there are two, it would wait for the workers otherwise.
            cores = os.sched_getaffinity(0)
            options.workers = options.workers or len(cores)
            for _ in range(options.workers):
                options.spawned.append(spawn_worker())
                options.spawned[-1].keep_off({min(cores)})
        # What is imported is never garbage; the collector need not look for it there.
        gc.disable()
        # Not before: the import of Twisted is most of what --help would wait for.
        from pytxmr.cli.commands import COMMANDS

        gc.freeze()
        gc.enable()
        return COMMANDS[options.command](options)
    except JobFailed as error:
        face.error(error)
        return 1
    except PytxmrError as error:
        face.error(error)
        return 2
