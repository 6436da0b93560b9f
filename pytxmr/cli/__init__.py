"""The ``pytxmr`` command."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pytxmr.cli.report import Face


def command(face: Face | None = None) -> NoReturn:
    """Run the process's own command line, and end the process. What there is to tell of a job goes
    to ``face``: by default to the terminal."""
    status = main(face=face)
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
    try:
        status = _run(argv, face)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone. Python flushes once more at its end, and must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(argv: Sequence[str] | None, face: Face | None) -> int:
    from pytxmr.cli.options import build_parser, settle_runner
    from pytxmr.cli.report import Terminal
    from pytxmr.errors import JobFailed, PytxmrError
    from pytxmr.net.spawn import spawn_worker

    options = build_parser().parse_args(argv)
    options.face = face = face or Terminal()
    try:
        if options.command == "run":
            settle_runner(options)
        if options.command == "run" and options.runner == "local":
            # They get ready while Twisted is imported, which takes longer.
            options.workers = options.workers or len(os.sched_getaffinity(0))
            options.spawned = [spawn_worker() for _ in range(options.workers)]
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
