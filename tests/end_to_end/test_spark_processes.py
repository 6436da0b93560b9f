"""`pytxmr run --runner spark` as users meet it: its command line, and its end."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest
import sparkjobs
from processes import (
    BOOK,
    EXAMPLES,
    PYTXMR,
    QUICK_JAVA,
    WORDCOUNT,
    Cluster,
    Gate,
    Site,
    word_counts,
)
from sparkjobs import GATED, SPARK_SECONDS, left_in, specs_of

from pytxmr.runners import inline

sparkjobs.need_spark()

# Up to four times Java, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)
ON_LOOPBACK = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable} | QUICK_JAVA
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "spark.md"


def spark_of_its_own(directory: Path, settings: str) -> Path:
    """A home for Spark with settings of its own, and without pages."""
    import pyspark

    for name in ("bin", "jars", "python"):
        (directory / name).symlink_to(Path(pyspark.__file__).parent / name)
    (directory / "conf").mkdir()
    (directory / "conf" / "spark-defaults.conf").write_text(f"spark.ui.enabled false\n{settings}")
    return directory


def test_an_interrupted_job_leaves_nothing_on_the_spark_that_is_set_up(
    site: Site, tmp_path_factory: pytest.TempPathFactory
):
    """``SPARK_HOME`` says which it is, and what is there where it runs: on Spark's own daemons and
    executors, within one process and each its own."""
    gate = Gate(site.directory / "gate")
    site.write("in.txt", "a\nb\n")
    job = site.write("job.py", Gate.SOURCE + GATED.format(gate=str(gate.directory)))
    master = "spark.master local-cluster[1,1,1024]\n"
    home = spark_of_its_own(tmp_path_factory.mktemp("home"), master)
    site.env |= {"SPARK_HOME": os.fspath(home)} | ON_LOOPBACK
    before = site.listing()
    running = site.start(*PYTXMR, "run", job, "in.txt", "--output", "out", "--runner", "spark")
    gate.reached(SPARK_SECONDS)
    assert any(home.glob("work/app-*/*/stderr"))
    running.send(signal.SIGINT)
    assert running.ended(SPARK_SECONDS) == 130
    assert running.err.splitlines()[-1] == "pytxmr: Job001 was killed: interrupted"
    assert site.listing() == before
    gate.close()


def test_a_cluster_on_this_machine_leaves_what_a_job_leaves_in_this_process(
    site: Site, tmp_path_factory: pytest.TempPathFactory
):
    home = spark_of_its_own(tmp_path_factory.mktemp("home"), "")
    site.env |= {"SPARK_HOME": os.fspath(home)} | ON_LOOPBACK
    text = EXAMPLES / "data" / "documents.tsv"
    master = "local-cluster[1,1,1024]"
    words = ["--output", "out", "--runner", "spark", "--master", master, "--reducers", 2]
    done = site.pytxmr("run", WORDCOUNT, text, *words, seconds=SPARK_SECONDS)
    assert done.status == 0, done.err
    inline.run_all(specs_of(WORDCOUNT, [text], site.directory / "inline", reducers=2))
    assert left_in(site.directory / "out") == left_in(site.directory / "inline")
    assert any(home.glob("work/app-*/0/stderr"))


#: ResourceManager's port is one that nobody listens at, and is tried for a second.
YARN = {
    "yarn.resourcemanager.address": "127.0.0.1:1",
    "yarn.resourcemanager.connect.max-wait.ms": "1000",
    "yarn.resourcemanager.connect.retry-interval.ms": "500",
    "ipc.client.connect.max.retries": "0",
}


@pytest.mark.parametrize(
    ("is_set_up", "said"),
    [
        (False, r"Spark does not start: When running with master 'yarn' either HADOOP_CONF_DIR or"),
        (True, r"Spark does not start on yarn: .* to localhost:1 failed .*Connection refused; .*"),
    ],
)
def test_a_yarn_that_cannot_be_had_is_an_error_at_once(is_set_up: bool, said: str, site: Site):
    site.write("in.txt", "a\n")
    site.env = {name: value for name, value in site.env.items() if "HADOOP" not in name}
    site.env |= ON_LOOPBACK
    if is_set_up:
        settings = (f"<name>{name}</name><value>{YARN[name]}</value>" for name in YARN)
        properties = "".join(f"<property>{one}</property>" for one in settings)
        site.write("yarn-site.xml", f"<configuration>{properties}</configuration>")
        site.env |= {"HADOOP_CONF_DIR": os.fspath(site.directory)}
    before = site.listing()
    words = ["--output", "out", "--runner", "spark", "--master", "yarn"]
    words += ["--spark-conf", "spark.ui.enabled=false"]
    done = site.pytxmr("run", WORDCOUNT, "in.txt", *words, seconds=SPARK_SECONDS)
    log = f"{site.directory}/out.spark.log"
    named = re.escape(f" (Spark's log: {log})") if is_set_up else ".*"
    assert done.status == 2
    assert re.fullmatch(f"pytxmr: {said}{named}\n", done.err)
    assert site.listing() == before | ({"out.spark.log"} if is_set_up else set())


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
