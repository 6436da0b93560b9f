"""A plain run imports only what it uses: start-up is most of what a small job takes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pytxmr

PACKAGE = Path(pytxmr.__file__).resolve().parent

#: What the command cannot do without, and all that these bring with them.
NEEDED = """
import argparse, glob, mmap, secrets, msgpack, xxhash
import twisted.application.service, twisted.internet.endpoints, twisted.internet.reactor
import twisted.internet.task, twisted.protocols.basic, twisted.spread.pb
"""
JOB = """
import sys

def mapper(offset, line):
    yield "modules", " ".join(sys.modules)

def reducer(key, values):
    yield " ".join(sys.modules), " ".join(values)
"""
RUN = """
import sys
from pytxmr.cli import main
assert main(["run", "job.py", "in.txt", "--output", "out"]) == 0
"""
#: Of pytxmr, what belongs to workers, or to runs of another kind.
NOT_IN_THE_COMMAND = {
    "job.pipeline", "job.steps", "records.arrowformats", "records.mapping", "records.merge",
    "records.reducing", "records.sftp", "records.sortbuffer", "runners.inline", "runners.spark",
    "simulation", "steps", "testing", "worker",
}  # fmt: skip
#: Of Python's own, what costs a worker milliseconds, and serves few jobs.
NOT_IN_A_WORKER = {
    "argparse", "asyncio", "concurrent", "decimal", "email", "fractions", "http", "logging",
    "multiprocessing", "pickle", "random", "secrets", "socket", "sqlite3", "ssl", "statistics",
    "subprocess", "tempfile", "unittest", "uuid", "xml", "zipfile",
}  # fmt: skip


def modules_after(program: str, directory: Path) -> set[str]:
    """The names of all modules that a Python has imported after it ran a program."""
    report = "\nimport json, sys\nprint('\\n' + json.dumps(list(sys.modules)))\n"
    done = subprocess.run(
        [sys.executable, "-c", program + report],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": os.fspath(PACKAGE.parent)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: Any) -> tuple[Path, set[str]]:
    directory = tmp_path_factory.mktemp("run")
    (directory / "job.py").write_text(JOB)
    (directory / "in.txt").write_text("a line\n")
    return directory, modules_after(RUN, directory)


def ours(modules: set[str]) -> set[str]:
    return {name.removeprefix("pytxmr.") for name in modules if name.startswith("pytxmr.")}


def test_a_run_imports_twisted_and_what_it_needs_and_nothing_else(ran):
    directory, modules = ran
    beyond = modules - modules_after(NEEDED, directory)
    assert {name for name in beyond if not name.startswith("pytxmr")} == set()


def test_a_run_imports_nothing_of_pytxmr_that_works_elsewhere(ran):
    _, modules = ran
    for name in NOT_IN_THE_COMMAND:
        assert importlib.util.find_spec(f"pytxmr.{name}") is not None
    assert ours(modules) & NOT_IN_THE_COMMAND == set()


def test_a_worker_imports_neither_twisted_nor_what_few_jobs_use(ran):
    directory, _ = ran
    ((mapped, reduced),) = [
        line.split("\t")
        for part in (directory / "out").glob("part-*")
        for line in part.read_text().splitlines()
    ]
    bare = modules_after("", directory)
    for modules in map(set, (mapped.split(), reduced.split())):
        packages = {name.partition(".")[0] for name in modules - bare}
        assert packages & NOT_IN_A_WORKER == set()
        foreign = {name for name in packages - sys.stdlib_module_names if "cython" not in name}
        foreign = {name for name in foreign if not name.startswith("pytxmr")}
        assert foreign == {"msgpack", "xxhash"}
        assert ours(modules) & {"jobtracker", "client", "cli", "net", "plan", "testing"} == set()


def test_workers_start_before_the_command_has_imported_twisted(ran):
    directory, _ = ran
    program = """
import sys
from pytxmr.net import spawn
spawn_worker, there = spawn.spawn_worker, []

def spawn_and_look():
    there.append("twisted" in sys.modules)
    return spawn_worker()

spawn.spawn_worker = spawn_and_look
from pytxmr.cli import main
words = ["run", "job.py", "in.txt", "--output", "early", "--workers", "2"]
assert main(words) == 0
print(there)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": os.fspath(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "[False, False]"
