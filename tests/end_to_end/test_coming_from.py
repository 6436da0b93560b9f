"""What docs/coming-from.md shows of others gives what the job beside it gives.

Hadoop Streaming is its shell's pipe and a sort; of Disco, which no Python 3 can install, it is the
two functions, called as it calls them. mrjob and PySpark run themselves.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from processes import QUICK_JAVA

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "coming-from.md").read_text("utf-8")
LOG = ROOT / "examples" / "data" / "access.log"
SHOWN = re.search(r"^```text statuses/part-00000\n(.*?)^```$", PAGE, re.M | re.S)[1]
BAD_LINES = int(re.search(r"^  counter   bad lines: (\d+)$", PAGE, re.M)[1])


def snippet(first_line: str) -> str:
    """What the page shows below that line, and the line itself."""
    return re.search(rf"^```python\n({re.escape(first_line)}\n.*?)^```$", PAGE, re.M | re.S)[1]


def run(words: Iterable[object], lines: str = "", **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(
        command, input=lines, capture_output=True, text=True, check=True, timeout=100, **more
    )


def test_what_hadoop_streaming_would_run_gives_what_the_job_beside_it_gives() -> None:
    mapped = run(["-c", snippet("import sys  # mapper.py")], LOG.read_text("utf-8"))
    assert mapped.stderr == "reporter:counter:log,bad lines,1\n" * BAD_LINES
    shuffled = "".join(sorted(mapped.stdout.splitlines(keepends=True)))
    assert run(["-c", snippet("import sys  # reducer.py")], shuffled).stdout == SHOWN


def test_what_disco_would_call_gives_what_the_job_beside_it_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Signatures and results as in Disco 0.5's disco.core, and disco.util.kvgroup.
    class Job:
        def run(self, input: list[str], map: Any, reduce: Any, params: Any) -> Job:
            pairs = [pair for line in LOG.open(encoding="utf-8") for pair in map(line, params)]
            self.results = list(reduce(iter(pairs), params))
            return self

        def wait(self, show: bool) -> list[Any]:
            return self.results

    def kvgroup(pairs: Iterable[Any]) -> Iterator[Any]:
        for key, group in groupby(pairs, key=lambda pair: pair[0]):
            yield key, (value for _, value in group)

    for name in ("disco", "disco.core", "disco.util"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["disco.core"].Job, sys.modules["disco.core"].result_iterator = Job, iter
    sys.modules["disco.util"].kvgroup = kvgroup
    script = tmp_path / "statuses.py"
    script.write_text(snippet("from disco.core import Job, result_iterator"))
    runpy.run_path(os.fspath(script), run_name="__main__")
    assert capsys.readouterr().out == SHOWN.replace("\t", " ")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="mrjob has not come further than 3.11")
def test_what_mrjob_runs_gives_what_the_job_beside_it_gives(tmp_path: Path) -> None:
    script = tmp_path / "statuses.py"
    script.write_text(snippet("from mrjob.job import MRJob"))
    done = run([script, "--no-conf", "--least", 3, LOG])
    assert sorted(done.stdout.replace('"', "").splitlines()) == sorted(SHOWN.splitlines())
    assert f"bad lines={BAD_LINES}" in done.stderr


@pytest.mark.skipif(
    os.environ.get("CI") != "true" and not (find_spec("pyspark") and shutil.which("java")),
    reason="wants Java 17 and PySpark: pip install 'pytxmr[spark]'",
)
def test_what_pyspark_runs_gives_what_the_job_beside_it_gives(tmp_path: Path) -> None:
    shutil.copy(LOG, tmp_path / "access.log")
    submitted = "--master local[2] --conf spark.driver.bindAddress=127.0.0.1 pyspark-shell"
    here = {"PYSPARK_SUBMIT_ARGS": submitted, "PYSPARK_PYTHON": sys.executable}
    here |= {"SPARK_LOCAL_IP": "127.0.0.1"} | QUICK_JAVA
    script = tmp_path / "statuses.py"
    script.write_text(snippet("from pyspark import SparkContext"))
    run([script], cwd=tmp_path, env=os.environ | here)
    parts = (tmp_path / "statuses").glob("part-*")
    assert sorted(line for part in parts for line in part.open()) == SHOWN.splitlines(True)
