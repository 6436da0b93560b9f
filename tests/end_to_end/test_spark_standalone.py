"""On a cluster of Spark's own daemons a job puts out, to the byte, what it puts out everywhere."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sparkjobs
from processes import EXAMPLES, QUICK_JAVA, WORDCOUNT, Death, Gate, Process, Site
from sparkjobs import ON_SPARK, SPARK_SECONDS, Features, on_spark, specs_of

from pytxmr.runners import spark

sparkjobs.need_spark()

# The first test starts Java six times, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)
#: Executors have Python alone: neither pytxmr nor what it needs.
BARE = os.path.realpath(sys.executable)
#: What these import of their own is for executors to have.
OF_LIBRARIES = {"sort batch", "wordcount batch", "batch of records", "parquet"}
ENVIRONMENT = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": BARE} | QUICK_JAVA
#: To Spark on machines of their own: else it does not double tasks.
WORKERS = {"one": "127.0.0.1", "two": "127.0.0.2"}


class Standalone:
    """Spark's master and two workers of one core each, on loopback."""

    def __init__(self, site: Site) -> None:
        import pyspark

        home = Path(pyspark.__file__).parent
        self._class = home / "bin" / "spark-class"
        self._site = site
        site.env |= {"SPARK_HOME": os.fspath(home)} | ENVIRONMENT
        del site.env["PYTHONPATH"]
        self.master = self._start("master.Master", "127.0.0.1")
        self.url = self.master.saw(r"spark://127\.0\.0\.1:\d+", SPARK_SECONDS)[0]
        self.workers = {name: self._start_worker(name) for name in WORKERS}
        for worker in self.workers.values():
            worker.saw("Successfully registered with master", SPARK_SECONDS)

    def _start_worker(self, name: str) -> Process:
        place = self._site.directory / name
        size = ("--cores", 1, "-m", "1g")
        return self._start("worker.Worker", WORKERS[name], *size, "-d", place, self.url)

    def executor_of(self, name: str) -> int:
        """The process of the only executor that a worker has started."""
        at = self.workers[name].saw(r"Starting Spark worker (127\.0\.0\.\d:\d+) with")[1]
        found = self._site.processes().items()
        (pid,) = (pid for pid, command in found if f"Worker@{at} " in command)
        return pid

    def _start(self, name: str, host: str, *words: object) -> Process:
        where = ["--host", host, "--port", 0, "--webui-port", 0]
        return self._site.start(self._class, f"org.apache.spark.deploy.{name}", *where, *words)


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    site = Site(tmp_path_factory.mktemp("standalone"))
    try:
        made = Standalone(site)
        yield made
        for process in (*made.workers.values(), made.master):
            process.stop()
        assert site.processes() == {}
    finally:
        site.close()


@pytest.fixture(scope="module")
def context(standalone: Standalone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One application for all tests."""
    place = tmp_path_factory.mktemp("spark")
    # The parcel has what this job needs: LZ4, too.
    (spec,) = specs_of(WORDCOUNT, [EXAMPLES / "data" / "documents.tsv"], place / "out", codec="lz4")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        without_page = [("spark.ui.enabled", "false")]
        with spark.application(spec, str(place / "log"), standalone.url, without_page) as made:
            yield made


@pytest.mark.parametrize("name", ON_SPARK)
def test_a_feature_leaves_on_sparks_daemons_what_it_leaves_in_this_process(
    name: str, context: Any, in_this_process: Features
) -> None:
    context.pythonExec = sys.executable if name in OF_LIBRARIES else BARE
    in_this_process.assert_left_on_spark(name, context)


#: The first to map the last line is slow, until another maps it, too.
DOUBLED = """
import pytxmr

def mapper(key, value):
    pytxmr.counter("mapped")
    if value == "last":
        gate({gate!r})
    yield value, 1

def reducer(key, values):
    yield key, sum(values)
"""


def test_a_task_that_speculation_doubles_counts_once(context: Any, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    (tmp_path / "in.txt").write_text("some\n" * 19 + "last\n")
    job = tmp_path / "job.py"
    job.write_text(Gate.SOURCE + DOUBLED.format(gate=str(gate.directory)))
    specs = specs_of(job, [tmp_path / "in.txt"], tmp_path / "out", reducers=1, split_bytes=5)

    def let_on_when_doubled() -> None:
        for _ in range(2):
            gate.reached(SPARK_SECONDS)
        for _ in range(2):
            gate.open()

    with ThreadPoolExecutor(1) as thread:
        letting = thread.submit(let_on_when_doubled)
        counters = on_spark(context, specs)["counters"]
    letting.result()
    gate.close()
    assert counters["job: mapped"] == counters["map input records"] == 20


def test_a_job_outlives_a_worker_of_sparks_cluster(
    standalone: Standalone, context: Any, tmp_path: Path
) -> None:
    def kill() -> None:
        executor = Death(standalone.executor_of("one"))
        standalone.workers["one"].send(signal.SIGKILL)
        executor.wait(SPARK_SECONDS)

    sparkjobs.assert_outlived(context, tmp_path, kill)
