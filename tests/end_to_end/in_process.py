"""The command in this process: for command lines that start no process, as they are refused, plan
a job or run it inline. That saves an interpreter and its imports for each."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from unittest import mock

from processes import Finished, Site

from pytxmr.cli import main


def typed(site: Site, *words: object) -> Finished:
    """What the command line does in the site's directory; it leaves no module of the job here."""
    known, path = set(sys.modules), list(sys.path)
    with (
        contextlib.chdir(site.directory),
        mock.patch.dict(os.environ, site.env, clear=True),
        mock.patch.object(tempfile, "tempdir", os.fspath(site.temporary)),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        try:
            status = main([str(word) for word in words])
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            sys.path[:] = path
            for name in set(sys.modules) - known:
                file = getattr(sys.modules[name], "__file__", None)
                if file is None or file.startswith(f"{site.directory}/"):
                    del sys.modules[name]
    return Finished(status, out.getvalue(), err.getvalue())


def inline(site: Site, job: object, *words: object, output: str = "out") -> Finished:
    """`pytxmr run --runner inline`."""
    return typed(site, "run", job, *words, "--output", output, "--runner", "inline")
