"""What `make test` says before it runs anything."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE_TREE = Path(__file__).resolve().parent.parent
USED = ("make", "sh", "cat", "cmp", "find", "printf", "sort")
LEFT_OUT = "There is no Java here: the tests on Apache Spark are left out."


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("java", [True, False], ids=["with Java", "without Java"])
def test_without_java_a_line_says_what_is_left_out_and_why(java: bool, tmp_path: Path) -> None:
    for name in USED:
        if found := shutil.which(name):
            (tmp_path / name).symlink_to(found)
    if java:
        (tmp_path / "java").write_text("#!/bin/sh\n")
        (tmp_path / "java").chmod(0o700)
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "test"],
        cwd=SOURCE_TREE,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines.count(f'echo "{LEFT_OUT}"') == (not java)
    assert any("[test,spark]" in line for line in lines) == java
