"""docs/formats.md: its files, jobs and commands give the output that it shows."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import pytxmr
from pytxmr import readers, writers
from pytxmr.job.readymade import ready_made_names

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "formats.md").read_text("utf-8")
# The processes started here test the pytxmr that this one tests, installed or in the checkout.
IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent
RUN_SECONDS = 100
# What stands between two fences: files that are named after the language, jobs in their first line.
BLOCKS = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {
    name or re.match(r"# (\w+\.py)\n", text)[1]: text
    for language, name, text in BLOCKS
    if name or language == "python"
}
COMMANDS = re.findall(r"^    (pytxmr run .*)$", PAGE, re.MULTILINE)


# `make test` installs the extra, so that there nothing is passed over.
@pytest.mark.skipif(
    "PYTXMR_TEST_INSTALLED" not in os.environ and importlib.util.find_spec("pyarrow") is None,
    reason="the extra arrow is not installed",
)
def test_what_the_page_tells_to_run_gives_what_it_shows(tmp_path: Path):
    for name, text in FILES.items():
        if "/" not in name:
            (tmp_path / name).write_text(text, "utf-8")
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.fspath(IMPORTED_FROM)},
            capture_output=True,
            timeout=RUN_SECONDS,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
    shown = {name: text for name, text in FILES.items() if "/" in name}
    assert {name: (tmp_path / name).read_text("utf-8") for name in shown} == shown


def test_the_page_runs_every_job_that_it_shows():
    typed = {shlex.split(command)[2] for command in COMMANDS}
    assert typed == {name for name in FILES if name.endswith(".py")}


@pytest.mark.parametrize(("role", "module"), [("reader", readers), ("writer", writers)])
def test_the_page_and_the_docstring_have_every_ready_made_one(role: str, module: object):
    for name in ready_made_names(role):
        assert re.search(rf"^\|.*`{role}s\.{name}[`(]", PAGE, re.MULTILINE), name
        assert re.search(rf"^.*``{name}(\(\w+\))?``", module.__doc__, re.MULTILINE), name
