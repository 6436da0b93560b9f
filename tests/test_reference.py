"""docs/reference.md is what docs/make_reference.py makes, and all that is public is in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytxmr

ROOT = Path(__file__).resolve().parent.parent
# The process started here documents the pytxmr that this one tests, installed or in the checkout.
IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "reference.md").read_text("utf-8")


def test_the_reference_is_what_the_docstrings_say(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_reference.py", tmp_path / "made.md"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.fspath(IMPORTED_FROM)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    same = (tmp_path / "made.md").read_text("utf-8") == PAGE
    assert same, "docs/reference.md is older than what it is made of: run `make docs`"


def test_the_reference_has_every_name_of_the_package() -> None:
    modules = {"folds"}
    for name in pytxmr.__all__:
        assert f"`pytxmr.{name}`" in PAGE or name in modules, name
