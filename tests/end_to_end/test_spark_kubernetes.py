"""On Kubernetes a job puts out, to the byte, what it puts out everywhere.

The cluster is one of the tests' own (see `kubernetes`): Spark's client for it, and its executors,
are the real ones.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sparkjobs
from kubernetes import IMAGE, Kubernetes
from processes import EXAMPLES, PYTXMR, QUICK_JAVA, WORDCOUNT, Gate, Site
from sparkjobs import GATED, SPARK_SECONDS, Features, left_in, on_spark, specs_of

from pytxmr.errors import JobFailed
from pytxmr.runners import inline, spark

sparkjobs.need_spark()

# Each test starts Java up to three times, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)
#: Executors have Python alone: neither pytxmr nor what it needs.
BARE = os.path.realpath(sys.executable)
DRIVER = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": BARE} | QUICK_JAVA
SETTINGS = {
    "spark.kubernetes.container.image": IMAGE,
    "spark.kubernetes.allocation.batch.delay": "200ms",
    "spark.ui.enabled": "false",
}
ONE_POD = SETTINGS | {"spark.executor.instances": "1"}
TEXT = EXAMPLES / "data" / "documents.tsv"
#: What a job has in more places than its module, and what steps hand on.
FEATURES = ("join", "modules, side file and archive", "steps of a class")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    import pyspark

    site = Site(tmp_path_factory.mktemp("kubernetes"))
    home = os.path.dirname(pyspark.__file__)
    made = Kubernetes(site, {"PATH": os.environ["PATH"], "SPARK_HOME": home} | QUICK_JAVA)
    try:
        yield made
        made.wait_until_empty(SPARK_SECONDS)
        assert site.processes() == {}
    finally:
        made.close()
        site.close()


def command(cluster: Kubernetes, *words: object) -> list[object]:
    """A job in one pod."""
    settings = [f"--spark-conf={name}={value}" for name, value in ONE_POD.items()]
    where = ["--runner", "spark", "--master", cluster.url, *settings]
    return [*PYTXMR, "run", *words, "--output", "out", *where]


def test_a_job_on_kubernetes_puts_out_what_it_does_in_this_process_and_leaves_no_pod(
    cluster: Kubernetes, site: Site
) -> None:
    site.env |= DRIVER
    running = site.start(*command(cluster, WORDCOUNT, TEXT, "--reducers", 2))
    assert running.ended(SPARK_SECONDS) == 0, running.err
    inline.run_all(specs_of(WORDCOUNT, [TEXT], site.directory / "inline", reducers=2))
    left = left_in(site.directory / "out")
    assert left == left_in(site.directory / "inline")
    assert left.keys() == {"_SUCCESS", "part-00000", "part-00001"}
    cluster.wait_until_empty(SPARK_SECONDS)


def test_an_interrupted_job_leaves_no_pod(cluster: Kubernetes, site: Site) -> None:
    gate = Gate(site.directory / "gate")
    site.write("in.txt", "a\nb\n")
    job = site.write("job.py", Gate.SOURCE + GATED.format(gate=str(gate.directory)))
    site.env |= DRIVER
    before = site.listing()
    running = site.start(*command(cluster, job, "in.txt"))
    gate.reached(SPARK_SECONDS)
    assert len(cluster.names()) == 1
    running.send(signal.SIGINT)
    assert running.ended(SPARK_SECONDS) == 130
    assert running.err.splitlines()[-1] == "pytxmr: Job001 was killed: interrupted"
    assert site.listing() == before
    cluster.wait_until_empty(SPARK_SECONDS)
    gate.close()


@pytest.fixture(scope="module")
def context(cluster: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One application for all that follow."""
    place = tmp_path_factory.mktemp("spark")
    (spec,) = specs_of(WORDCOUNT, [TEXT], place / "out")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in DRIVER.items():
            patch.setenv(name, value)
        with spark.application(
            spec, str(place / "log"), cluster.url, list(SETTINGS.items())
        ) as made:
            yield made


def test_a_pod_may_take_what_java_and_a_python_process_do(
    cluster: Kubernetes, context: Any
) -> None:
    limits = {
        container["resources"]["limits"]["memory"]
        for pod in cluster.listed("pods", "spark-role=executor")
        for container in pod["spec"]["containers"]
    }
    # Java's objects, what it takes beside, and what Python has where no --memory is said.
    assert limits == {f"{1024 + 384 + 512}Mi"}


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_leaves_on_kubernetes_what_it_leaves_in_this_process(
    name: str, context: Any, in_this_process: Features
) -> None:
    in_this_process.assert_left_on_spark(name, context)


def test_a_job_that_fails_on_kubernetes_shows_the_users_own_error(
    context: Any, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text("def mapper(key, value):\n    yield int(value), 1\n")
    (tmp_path / "in.txt").write_text("1\ntwo\n")
    specs = specs_of(tmp_path / "job.py", [tmp_path / "in.txt"], tmp_path / "out", reducers=0)
    with pytest.raises(JobFailed, match="Map001 failed 4 times: the mapper raised ValueError"):
        on_spark(context, specs)
    assert not (tmp_path / "out").exists()


def test_a_job_outlives_a_pod(cluster: Kubernetes, context: Any, tmp_path: Path) -> None:
    def kill() -> None:
        cluster.kill(cluster.names()[0], SPARK_SECONDS)

    sparkjobs.assert_outlived(context, tmp_path, kill)
