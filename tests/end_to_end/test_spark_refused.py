"""What cannot run on Spark is refused before it starts Java, with what to do about it."""

from __future__ import annotations

import re
import sys

import pytest
from processes import BOOK, WORDCOUNT, Site

from pytxmr.cli.options import build_parser, parse, settle_runner
from pytxmr.errors import BadConfiguration
from pytxmr.runners import blocking, spark


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--master", "local"], "--master is for a job that runs on Spark: add --runner spark"),
        (
            ["--runner", "inline", "--spark-conf", "a=b"],
            "--spark-conf is for a job that runs on Spark: add --runner spark",
        ),
        (
            ["--runner", "spark", "--keep"],
            "--keep means nothing where the job runs on Spark (--runner spark)",
        ),
        (
            ["--runner", "spark", "--workers", "2"],
            "--workers means nothing where the job runs on Spark (--runner spark)",
        ),
        (
            ["--runner", "spark", "--jobtracker", "tcp:localhost:9000"],
            "--jobtracker means nothing where the job runs on Spark (--runner spark)",
        ),
    ],
)
def test_what_contradicts_the_runner_is_refused(words, said):
    options = parse(build_parser(), ["run", "job.py", "in", "--output", "out", *words])
    with pytest.raises(BadConfiguration, match=re.escape(said)):
        settle_runner(options)


def test_a_program_names_master_and_settings_as_the_command_line_does():
    given = {"runner": "spark", "master": "local[2]", "spark_conf": ["a.b=c", "d=e=f"]}
    options = parse(build_parser(), blocking._words("job.py", "in", "out", given))
    settle_runner(options)
    assert (options.runner, options.master) == ("spark", "local[2]")
    assert options.spark_conf == [("a.b", "c"), ("d", "e=f")]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("pyspark", "pytxmr: --runner spark needs PySpark: pip install 'pytxmr[spark]' ("),
        ("java", "pytxmr: --runner spark needs Java 17 or newer: apt-get install openjdk-17-jre-"),
    ],
)
def test_what_is_missing_is_named_with_what_to_install(missing, said, site: Site):
    if missing == "java":
        pytest.importorskip("pyspark")
    site.env |= {"PATH": ""}
    site.env.pop("JAVA_HOME", None)
    program = "import sys; from pytxmr.cli import command; command()"
    if missing == "pyspark":
        program = program.replace("; ", "; sys.modules['pyspark'] = None; ", 1)
    words = ["run", WORDCOUNT, BOOK, "--output", "out", "--runner", "spark"]
    running = site.start(sys.executable, "-c", program, *words)
    assert running.ended() == 2
    assert running.err.startswith(said)
    assert len(running.err.splitlines()) == 1
    assert site.listing() == set()


def test_standard_input_is_refused_where_executors_cannot_see_it(site: Site):
    words = ["-", "--output", "out", "--runner", "spark", "--master", "spark://127.0.0.1:1"]
    done = site.pytxmr("run", WORDCOUNT, *words)
    assert done.status == 2
    assert "standard input, -, is only for a job that runs here" in done.err


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            "WARNING: Using incubator modules: jdk.incubator.vector\n"
            'Exception in thread "main" org.apache.spark.SparkException: Master must be known\n'
            "\tat org.apache.spark.deploy.SparkSubmit.error(SparkSubmit.scala:1068)\n",
            "Master must be known",
        ),
        (
            "NOTE: Picked up JDK_JAVA_OPTIONS: -Xmx1\nPicked up JAVA_TOOL_OPTIONS: -Xms1\n"
            "Error: Could not create the Java Virtual Machine.\n",
            "Error: Could not create the Java Virtual Machine.",
        ),
        (
            "spark-class: line 71: /no/java: No such file\nmore\n",
            "spark-class: line 71",
        ),
        ("", "it says nothing"),
    ],
)
def test_why_spark_does_not_start_is_said_in_a_line(log, reason, tmp_path):
    (tmp_path / "log").write_text(log)
    assert spark.reason_of(str(tmp_path / "log")).startswith(reason)


@pytest.mark.parametrize(
    ("causes", "log", "reason"),
    [
        (
            ["An error has occurred.", "Connection refused: /127.0.0.1:1", "Connection refused"],
            "26/11/22 04:10:07 ERROR Utils: Uncaught exception in thread Thread-4\n",
            "An error has occurred: Connection refused: /127.0.0.1:1",
        ),
        (
            ["Spark context stopped while waiting for backend"],
            "26/11/22 04:10:07 WARN ExecutorPodsLifecycleManager: 1 new failed executors.\n"
            "26/11/22 04:10:07 ERROR SparkContext: Error initializing SparkContext.\n"
            "26/11/22 04:10:07 ERROR ExecutorPodsLifecycleManager: Max number of executor failures"
            " (3) reached\n",
            "Spark context stopped while waiting for backend: Max number of executor failures (3)"
            " reached",
        ),
        (["Permission denied"], "", "Permission denied"),
    ],
)
def test_why_spark_cannot_go_on_is_said_with_the_cause(causes, log, reason, tmp_path):
    (tmp_path / "log").write_text(log)
    assert spark.why_not(causes, str(tmp_path / "log")) == reason


def test_kubernetes_without_an_image_is_refused():
    """Where Spark would wait for executors for ever."""
    master = {"spark.master": "k8s://https://127.0.0.1:6443"}
    with pytest.raises(
        BadConfiguration, match=r"--spark-conf spark\.kubernetes\.container\.image="
    ):
        spark.check_settings(master)
    for name in ("spark.kubernetes.container.image", "spark.kubernetes.executor.container.image"):
        spark.check_settings(master | {name: "spark"})
    spark.check_settings({"spark.master": "yarn"})
