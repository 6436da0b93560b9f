"""`pytxmr run --runner spark` as users meet it: its command line, its end, Spark's own daemons."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from processes import BOOK, EXAMPLES, PYTXMR, Cluster, Gate, Process, Site, word_counts

# Where changes are checked before they are taken, both have to be there.
if os.environ.get("CI") != "true" and not (find_spec("pyspark") and shutil.which("java")):
    pytest.skip(
        "tests on Spark need Java 17 and PySpark: pip install 'pytxmr[spark]'",
        allow_module_level=True,
    )

# Up to five times Java, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "spark.md"
#: To start Java, and Spark in it, takes seconds.
SPARK_SECONDS = 150.0

GATED = """
def mapper(key, value):
    gate({gate!r})
    yield value, 1

def reducer(key, values):
    yield key, sum(values)
"""

#: Each process that reduces waits once, when all is mapped.
MAPPED = """
waited = []

def mapper(key, value):
    for word in value.lower().split():
        yield word, 1

def reducer(key, values):
    if not waited:
        waited.append(True)
        gate({gate!r})
    yield key, sum(values)
"""


def test_an_interrupted_job_leaves_nothing(site: Site):
    gate = Gate(site.directory / "gate")
    site.write("in.txt", "a\nb\n")
    job = site.write("job.py", Gate.SOURCE + GATED.format(gate=str(gate.directory)))
    # Where it runs is for Spark's own configuration to say, too.
    conf = site.directory / "conf"
    conf.mkdir()
    (conf / "spark-defaults.conf").write_text("spark.master local[2]\n")
    site.env["SPARK_CONF_DIR"] = os.fspath(conf)
    before = site.listing()
    running = site.start(*PYTXMR, "run", job, "in.txt", "--output", "out", "--runner", "spark")
    gate.reached(SPARK_SECONDS)
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
    site.env |= cluster.client_env
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


# ---- Spark's own daemons


class Standalone:
    """Spark's master and two workers of one core each, on loopback."""

    def __init__(self, site: Site) -> None:
        import pyspark

        self._class = Path(pyspark.__file__).parent / "bin" / "spark-class"
        self._site = site
        home = os.fspath(Path(pyspark.__file__).parent)
        # Executors have Python alone: neither pytxmr nor what it needs.
        bare = os.path.realpath(sys.executable)
        site.env |= {"SPARK_HOME": home, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": bare}
        imported_from = site.env.pop("PYTHONPATH")
        self.master = self._start("master.Master")
        self.url = self.master.saw(r"spark://127\.0\.0\.1:\d+", SPARK_SECONDS)[0]
        self.workers = [self._start_worker(name) for name in ("one", "two")]
        for worker in self.workers:
            worker.saw("Successfully registered with master", SPARK_SECONDS)
        site.env["PYTHONPATH"] = imported_from

    def _start_worker(self, name: str) -> Process:
        place = self._site.directory / name
        return self._start("worker.Worker", "--cores", 1, "-m", "1g", "-d", place, self.url)

    def _start(self, name: str, *words: object) -> Process:
        where = ["--host", "127.0.0.1", "--port", 0, "--webui-port", 0]
        return self._site.start(self._class, f"org.apache.spark.deploy.{name}", *where, *words)


@pytest.fixture
def standalone(site: Site) -> Iterator[Standalone]:
    made = Standalone(site)
    yield made
    for process in (*made.workers, made.master):
        process.stop()


def test_a_job_outlives_a_worker_of_sparks_cluster(site: Site, standalone: Standalone):
    """Its executors have no pytxmr, and one of them goes when it has mapped."""
    gate = Gate(site.directory / "gate")
    text = (EXAMPLES / "data" / "documents.tsv").read_bytes()
    site.write("in.txt", text)
    job = site.write("job.py", Gate.SOURCE + MAPPED.format(gate=str(gate.directory)))
    words = ["in.txt", "--output", "out", "--runner", "spark", "--master", standalone.url]
    words += ["--reducers", "2", "--split-size", "400"]
    words += ["--spark-conf", "spark.driver.host=127.0.0.1"]
    running = site.start(*PYTXMR, "run", job, *words)
    gate.reached(SPARK_SECONDS)
    gate.reached(SPARK_SECONDS)
    killed = standalone.workers[0]
    killed.send(signal.SIGKILL)
    for _ in range(4):
        gate.open()
    assert running.ended(SPARK_SECONDS) == 0, running.err
    counted = Counter(text.decode().lower().split())
    assert word_counts(site.parts()) == counted
    gate.close()
