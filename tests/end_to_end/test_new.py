"""What `pytxmr new` writes works as it is."""

from __future__ import annotations

import os
import re
import shlex
import sys

import pytest
from processes import PYTXMR, Site


def test_what_it_writes_passes_its_test_and_runs_by_the_commands_it_names(site: Site) -> None:
    done = site.pytxmr("new", "counting")
    assert done.status == 0, done.err
    files = {"counting.py", "input.txt", "test_counting.py"}
    assert set(os.listdir(site.directory / "counting")) == files
    cd, test, run = re.findall(r"^  (.*)$", done.out, re.MULTILINE)
    assert cd == "cd counting"
    assert shlex.split(test)[0] == "python"
    assert shlex.split(run)[0] == "pytxmr"
    there = ("env", "--chdir", site.directory / "counting")
    tested = site.start(*there, sys.executable, *shlex.split(test)[1:], "-p", "no:cacheprovider")
    assert tested.ended() == 0, tested.out
    assert "3 passed" in tested.out
    ran = site.start(*there, *PYTXMR, *shlex.split(run)[1:], "--workers", 2, "-D", "least=2")
    assert ran.ended() == 0, ran.err
    assert b"".join(sorted(site.parts("counting/counts"))) == b"dog\t2\nthe\t3\n"
    assert "counter   blank lines: 1" in ran.out


def test_what_exists_is_not_overwritten(site: Site) -> None:
    (site.directory / "counting").mkdir()
    done = site.pytxmr("new", "counting")
    assert done.status == 2
    assert done.err == "pytxmr: counting exists already; remove it or name another\n"
    assert os.listdir(site.directory / "counting") == []


@pytest.mark.parametrize("name", ["word-count", "2words", "json", "pytxmr", "class", "a/b/..", ""])
def test_what_cannot_be_a_module_of_ones_own_is_refused(site: Site, name: str) -> None:
    before = site.listing()
    done = site.pytxmr("new", name)
    assert done.status == 2
    assert done.err.startswith("pytxmr: ")
    assert site.listing() == before


def test_the_directory_may_be_elsewhere_but_must_have_a_parent(site: Site) -> None:
    (site.directory / "jobs").mkdir()
    assert site.pytxmr("new", "jobs/counting/").status == 0
    assert (site.directory / "jobs" / "counting" / "counting.py").exists()
    done = site.pytxmr("new", "gone/counting")
    assert done.status == 2
    assert done.err == "pytxmr: cannot make gone/counting: No such file or directory\n"
