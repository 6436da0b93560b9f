"""What docs/reuse.md shows is what happens when it is typed, in the order of the page."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytxmr

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "reuse.md").read_text("utf-8")
# The processes started here test the pytxmr that this one tests, installed or in the checkout.
IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent


def test_the_commands_of_the_page_reuse_what_it_says(tmp_path: Path) -> None:
    (job,) = re.findall(r"^```python\n# words.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "words.py").write_text(job, "utf-8")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    shown = re.findall(
        r"^    ((?:pytxmr|mkdir|head|tail|sed) .*)$|^```text\n(.*?)\n```$", PAGE, re.MULTILINE
    )
    printed = ""
    told = 0
    for command, wanted in shown:
        if wanted:
            assert wanted in printed
            told += 1
            continue
        pytxmr_here = f"{shlex.quote(sys.executable)} -m pytxmr "
        done = subprocess.run(
            command.replace("pytxmr ", pytxmr_here, 1) if command[:7] == "pytxmr " else command,
            shell=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.fspath(IMPORTED_FROM)},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        printed = done.stdout
    assert told == 4
    parts = [sorted((tmp_path / f"counts-{n}").glob("part-*")) for n in (3, 4)]
    assert [p.read_bytes() for p in parts[0]] == [p.read_bytes() for p in parts[1]]
