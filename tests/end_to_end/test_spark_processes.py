"""`pytxmr run --runner spark` as users meet it: its command line, and its end."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
import sparkjobs
from processes import BOOK, EXAMPLES, PYTXMR, QUICK_JAVA, Cluster, Gate, Site, word_counts
from sparkjobs import SPARK_SECONDS

sparkjobs.need_spark()

# Up to four times Java, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "spark.md"

GATED = """
def mapper(key, value):
    gate({gate!r})
    yield value, 1

def reducer(key, values):
    yield key, sum(values)
"""


def spark_of_its_own(directory: Path, settings: str) -> Path:
    """A home for Spark with settings of its own."""
    import pyspark

    for name in ("bin", "jars", "python"):
        (directory / name).symlink_to(Path(pyspark.__file__).parent / name)
    (directory / "conf").mkdir()
    (directory / "conf" / "spark-defaults.conf").write_text(settings)
    return directory


def test_an_interrupted_job_leaves_nothing_on_the_spark_that_is_set_up(
    site: Site, tmp_path_factory: pytest.TempPathFactory
):
    """``SPARK_HOME`` says which it is, and what is there where it runs: on Spark's own daemons and
    executors, within one process and each its own."""
    gate = Gate(site.directory / "gate")
    site.write("in.txt", "a\nb\n")
    job = site.write("job.py", Gate.SOURCE + GATED.format(gate=str(gate.directory)))
    master = "spark.master local-cluster[2,1,1024]\n"
    home = spark_of_its_own(tmp_path_factory.mktemp("home"), master)
    site.env |= {"SPARK_HOME": os.fspath(home), "SPARK_LOCAL_IP": "127.0.0.1"} | QUICK_JAVA
    before = site.listing()
    running = site.start(*PYTXMR, "run", job, "in.txt", "--output", "out", "--runner", "spark")
    gate.reached(SPARK_SECONDS)
    assert any(home.glob("work/app-*/*/stderr"))
    running.send(signal.SIGINT)
    assert running.ended(SPARK_SECONDS) == 130
    assert running.err.splitlines()[-1] == "pytxmr: Job001 was killed: interrupted"
    assert site.listing() == before
    gate.close()


def test_the_page_goes_from_laptop_to_daemons_to_spark(site: Site, cluster: Cluster):
    page = PAGE.read_text("utf-8")
    name, source = re.search(r"^```python\n# (\S+)\n(.*?)^```$", page, re.M | re.S).groups()
    site.write(name, source)
    (site.directory / "examples").symlink_to(EXAMPLES)
    site.env |= cluster.client_env | QUICK_JAVA
    commands = re.findall(r"^    pytxmr (run .*)$", page, re.M)
    outputs = []
    for command in commands:
        words = [word.strip("'") for word in command.split()]
        here = [] if "--runner" in words else ["--runner", "local"]
        done = site.pytxmr(*words, *here, seconds=SPARK_SECONDS)
        assert done.status == 0, done.err
        outputs.append(words[words.index("--output") + 1])
    assert outputs == ["here", "daemons", "spark"]
    longest: dict[str, int] = {}
    for word in BOOK.read_text("ascii").lower().split():
        if len(word) >= 3:
            longest[word[0]] = max(longest.get(word[0], 0), len(word))
    assert word_counts(site.parts("here")) == longest
    assert site.parts("here") == site.parts("daemons") == site.parts("spark")
    # What there is to tell is told as elsewhere, and where Spark's log is.
    assert re.search(r"^  counter +short words: [0-9,]+$", done.out, re.M)
    log = re.search(r"^  log +(\S+)$", done.out, re.M)[1]
    assert log == f"{site.directory}/spark.spark.log"
    assert "WARN" not in done.err
