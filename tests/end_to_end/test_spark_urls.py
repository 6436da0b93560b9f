"""On Spark, output goes behind URLs as it does everywhere, and input comes from there."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import re
import select
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sparkjobs
from processes import EXAMPLES, IMPORTED_FROM, QUICK_JAVA
from sparkjobs import BAD_LINES, left_in, on_spark, specs_of

sys.path.append(str(Path(__file__).resolve().parent.parent / "storage"))
from servers import need, s3_server, sftp_server

from pytxmr.errors import BadInput, JobFailed
from pytxmr.records.remote import list_url, own_filesystem
from pytxmr.runners import inline, spark, sparkhadoop
from pytxmr.storage.places import output_at

# The first test starts Java and the servers, on a machine that may be busy.
pytestmark = pytest.mark.timeout(300)
DATA = EXAMPLES / "data"
sparkjobs.need_spark()
need("fsspec", "s3fs", "paramiko")
HadoopFileSystem = import_module("pytxmr.runners.hadoopfiles").HadoopFileSystem
PATHS = {"PYTHONPATH": os.fspath(IMPORTED_FROM)}
_numbers = count()

#: One of Hadoop's own filesystems, that serves URLs of any scheme out of others.
VIEW = "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme"

FAILING = """
def mapper(key, value):
    yield value, object()

def reducer(key, values):
    yield key, sum(values)
"""

SORTED = """
import pytxmr

class Sorted(pytxmr.MapReduce):
    outputs = ("even", "odd")

    def map(self, key, value):
        yield pytxmr.to("odd" if len(value) % 2 else "even", None, value)
        yield key, len(value)
"""

BY_LENGTH = """
import pytxmr

class ByLength(pytxmr.MapReduce):
    outputs = ("long",)

    def map(self, key, value):
        yield len(value), value

    def reduce(self, key, values):
        for value in values:
            yield pytxmr.to("long", key, value) if key > 60 else (key, value)
"""


@dataclass
class Served:
    """An application on a `local` master, and servers that its tasks may use."""

    context: Any
    places: dict[str, str]
    #: What Hadoop serves as ``/data``.
    files: Path

    def run(self, specs: Any) -> dict[str, Any]:
        return on_spark(self.context, specs)

    def url(self, protocol: str) -> str:
        """Of a directory that is not there."""
        return f"{self.places[protocol]}/out{next(_numbers)}"


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    with ExitStack() as ending:
        place = tmp_path_factory.mktemp("spark")
        patch = ending.enter_context(pytest.MonkeyPatch.context())
        for name in ("s3", "sftp", "files"):
            (place / name).mkdir()
        env = ending.enter_context(s3_server(place / "s3"))
        sftp, home = ending.enter_context(sftp_server(place / "sftp"))
        # The tasks' processes have what Java has, and Java what we have.
        for name, value in (QUICK_JAVA | env | home).items():
            patch.setenv(name, value)
        (spec,) = specs_of(EXAMPLES / "wordcount.py", [DATA / "documents.tsv"], str(place / "out"))
        settings = [
            (f"spark.hadoop.fs.{name}", value)
            for name, value in {
                "hdfs.impl": VIEW,
                "local.block.size": str(1 << 20),
                "s3a.impl": VIEW,
                "viewfs.mounttable.nn.link./data": f"file://{place}/files",
                "viewfs.mounttable.pail.link./data": f"file://{place}/files",
            }.items()
        ]
        # One core, so one worker, which imports s3fs and starts a Java.
        context = ending.enter_context(
            spark.application(spec, str(place / "log"), "local[1]", settings)
        )
        places = {"s3": "s3://bucket", "sftp": f"{sftp}{place}/files"}
        places |= {"hdfs": "hdfs://nn/data", "s3a": "s3a://pail/data"}
        yield Served(context, places, place / "files")


def left_at(url: str) -> dict[str, bytes]:
    """The files below a URL."""
    with own_filesystem(url) as (filesystem, path):
        if not filesystem.exists(path):
            return {}
        found = filesystem.find(path)
        return {
            name.removeprefix(path).lstrip("/"): filesystem.cat_file(name, start=0, end=None)
            for name in sorted(found)
        }


def without_owner(found: dict[str, bytes]) -> dict[str, Any]:
    """The manifest as plain values; on S3 it says, too, whose it is."""
    manifest = json.loads(found["_SUCCESS"])
    manifest.pop("owner", None)
    return found | {"_SUCCESS": manifest}


# What an output behind a URL promises is tested for each kind of server by `storage/outputs.py`.
# Here is what is Spark's, once each.


@pytest.mark.parametrize("protocol", ["s3", "sftp"])
def test_an_output_behind_a_url_is_that_of_this_process(protocol, served, tmp_path):
    (tmp_path / "job.py").write_text(SORTED)
    options = {"split_bytes": 900, "compress": "gzip", "reducers": 0}
    inline.run_all(
        specs_of(
            f"{tmp_path}/job.py:Sorted", [DATA / "documents.tsv"], str(tmp_path / "out"), **options
        )
    )
    url = served.url(protocol)
    served.run(specs_of(f"{tmp_path}/job.py:Sorted", [DATA / "documents.tsv"], url, **options))
    there, here = left_at(url), left_in(tmp_path / "out")
    assert without_owner(there) == without_owner(here)
    assert "odd/part-00001.gz" in there


def test_records_at_which_processes_die_are_set_aside_behind_a_url(served, tmp_path):
    (tmp_path / "job.py").write_text(BAD_LINES)
    (tmp_path / "in.txt").write_text("1\n2\nthree\n4\n13\n6\n")
    url = served.url("s3")
    status = served.run(
        specs_of(tmp_path / "job.py", [tmp_path / "in.txt"], url, skip_bad_records=2, reducers=1)
    )
    left = left_at(url)
    assert sorted(left) == ["_SUCCESS", "_bad/Map001.jsonl", "part-00000"]
    assert left["part-00000"] == b"0\t6\n1\t5\n2\t2\n"
    bad = [json.loads(line) for line in left["_bad/Map001.jsonl"].splitlines()]
    assert [one["record"] for one in bad] == ["three", "13"]
    assert status["counters"]["bad records"] == 2
    assert status["counters"]["job: seen"] == 4


def test_a_job_that_fails_tells_the_users_error_and_leaves_nothing_there(served, tmp_path):
    url = served.url("s3")
    assert_fails(served, tmp_path, url)
    with own_filesystem(url) as (filesystem, path):
        # Of our S3 server there remains for a while what stands for the directory itself.
        assert set(filesystem.find(path)) <= {path}


def assert_fails(served: Served, tmp_path: Path, url: str) -> None:
    (tmp_path / "job.py").write_text(FAILING)
    (tmp_path / "in.txt").write_text("a\n")
    with pytest.raises(JobFailed) as raised:
        served.run(specs_of(tmp_path / "job.py", [tmp_path / "in.txt"], url))
    # Spark tries again, until that is seen.
    told = r"Job001: Map001 failed (once|\d times): for the key "
    assert re.match(told, raised.value.message)
    assert raised.value.details["where"] == f"{tmp_path}/in.txt, offset 0, record 'a'"
    assert 'job.py", line 3, in mapper' in raised.value.details["traceback"]


def test_an_output_that_is_there_is_refused_before_anything_runs(served, tmp_path):
    url = served.url("sftp")
    with own_filesystem(url) as (filesystem, path):
        filesystem.makedirs(path)
    with pytest.raises(BadInput, match="exists already"):
        served.run(specs_of(EXAMPLES / "wordcount.py", [DATA / "documents.tsv"], url))


def test_sparks_log_goes_beside_the_output_or_into_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert spark.log_of("/data/out/") == "/data/out.spark.log"
    assert spark.log_of("s3://bucket/books/out") == f"{tmp_path}/out.spark.log"


# ---- Hadoop's filesystems


@pytest.fixture(scope="module")
def inputs(served) -> list[str]:
    """What Hadoop has as ``/data/in``, by several names; the last of a file with a long line."""
    (served.files / "in" / "more").mkdir(parents=True)
    text = (DATA / "documents.tsv").read_bytes()
    (served.files / "in" / "a plain%20one").write_bytes(text)
    (served.files / "in" / "b.gz").write_bytes(gzip.compress(text))
    (served.files / "in" / "more" / "c").write_bytes(bz2.compress(text))
    (served.files / "in" / "_no").write_bytes(b"not read\n")
    (served.files / "long.gz").write_bytes(gzip.compress(b"x" * 9_000_000))
    return ["hdfs://nn/data/in/a*", "s3a://pail/data/in/", "hdfs://nn/data/long.gz"]


def left_by_hadoop(served: Served, url: str) -> dict[str, bytes]:
    found = left_in(served.files / url.partition("/data/")[2])
    # Of Hadoop's filesystem for local files are those that end so.
    return {name: data for name, data in found.items() if not name.endswith(".crc")}


def test_what_hadoop_has_is_read_and_written_as_files_are(served, inputs, tmp_path):
    """Also a part of more than the pieces in which it is sent, and the blocks that it is in."""
    (tmp_path / "job.py").write_text(BY_LENGTH)
    job, files, options = f"{tmp_path}/job.py:ByLength", served.files, {"split_bytes": 900}
    here = [files / "in" / "a*", files / "in", files / "long.gz"]
    inline.run_all(specs_of(job, here, str(tmp_path / "out"), **options))
    url = served.url("s3a")
    served.run(specs_of(job, inputs, url, **options))
    left = left_by_hadoop(served, url)
    assert left == left_in(tmp_path / "out")
    assert sorted(map(len, left.values()))[-1] > 9_000_000


def test_a_job_that_is_cancelled_leaves_nothing_where_hadoop_writes(served, inputs):
    """It is when all is written, and nothing is committed."""
    url = f"{served.url('s3a')}/made/for/it"
    seen = []

    def told(status: dict[str, Any]) -> None:
        if status["phase"] == "committing":
            seen.extend(left_by_hadoop(served, url))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_spark(served.context, specs_of(EXAMPLES / "wordcount.py", inputs[:1], url), told)
    assert len([name for name in seen if "/Reduce" in name]) == 3
    assert not (served.files / url.split("/")[4]).exists()


def test_a_job_that_fails_leaves_nothing_where_hadoop_writes(served, tmp_path):
    url = served.url("s3a")
    assert_fails(served, tmp_path, url)
    assert not (served.files / url.rpartition("/")[2]).exists()


def test_of_jobs_that_begin_at_once_one_at_most_gets_the_directory_from_hadoop(served):
    url = served.url("s3a")
    (spec,) = specs_of(EXAMPLES / "wordcount.py", [DATA / "documents.tsv"], url)

    refused = []

    def reserved(number: int) -> Any:
        output = output_at(url, f"owner{number}")
        try:
            output.reserve()
        except BadInput as error:
            refused.append(error.message)
            return None
        return output

    with sparkhadoop.serving(served.context, spec):
        with ThreadPoolExecutor(4) as pool:
            winners = [*filter(None, pool.map(reserved, range(4)))]
        assert len(winners) <= 1
        winner = winners[0] if winners else reserved(9)
        assert reserved(5) is None
        winner.commit([], {"job": "Job001"})
        assert [*left_by_hadoop(served, url)] == ["_SUCCESS"]
        assert reserved(6) is None
        winner.discard("Job001")
    assert all("exists already" in text for text in refused)
    assert not (served.files / url.rpartition("/")[2]).exists()


def test_a_hadoop_filesystem_does_what_others_do(served):
    conf = served.context._jsc.hadoopConfiguration()
    filesystem = HadoopFileSystem(served.context._jvm, conf, "hdfs", "nn")
    place = "/data/filesystem"
    filesystem.mkdir(place, create_parents=False)
    with pytest.raises(FileExistsError):
        filesystem.mkdir(place, create_parents=False)
    data = bytes(range(256)) * 40_000
    with filesystem.open(f"{place}/new", "xb") as file:
        file.write(data[:5_000_000])
        file.write(data[5_000_000:])
    with pytest.raises(FileExistsError):
        filesystem.open(f"{place}/new", "xb")
    with pytest.raises(OSError, match="none"):
        filesystem.open(f"{place}/none/new", "wb")
    assert filesystem.ls(place) == [{"name": f"{place}/new", "size": len(data), "type": "file"}]
    with filesystem.open(f"{place}/new", "rb", block_size=1 << 20) as file:
        file.seek(7_000_001)
        assert file.read(3_000_000) == data[7_000_001:10_000_001]
        file.seek(1)
        assert file.read() == data[1:]
    assert filesystem.cat_file(f"{place}/new", start=3, end=6) == data[3:6]
    filesystem.mv(f"{place}/new", f"{place}/old")
    assert not filesystem.exists(f"{place}/new")
    with pytest.raises(FileNotFoundError):
        filesystem.open(f"{place}/new", "rb")
    filesystem.rm_file(f"{place}/old")
    filesystem.rmdir(place)
    with pytest.raises(FileNotFoundError):
        filesystem.info(place)


KEPT = """
import os, sys
from pytxmr.runners import sparkhadoop
plain = {"schemes": ["file"], "conf": bytes.fromhex(sys.argv[1]), "jars": sys.argv[2]}
sparkhadoop.serve(plain)
from pytxmr.records.remote import list_url
print([url for url, size in list_url("file:///" + sys.argv[3].lstrip("/"))])
print(sparkhadoop._java.process.pid, flush=True)
sys.stdin.read()
"""


def test_the_java_of_a_worker_ends_when_the_worker_is_killed(tmp_path, monkeypatch):
    """It is started from what the environment says if there is no executor to take after."""
    import pyspark

    monkeypatch.setenv("SPARK_HOME", os.path.dirname(pyspark.__file__))
    (tmp_path / "in").write_text("a")
    secret = "<property><name>fs.s3a.secret.key</name><value>not-to-be-seen</value></property>"
    conf = zlib.compress(f"<configuration>{secret}</configuration>".encode()).hex()
    command = [sys.executable, "-c", KEPT, conf, str(tmp_path), str(tmp_path / "in")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | PATHS
    ) as worker:
        assert worker.stdout.readline() == f"['file://{tmp_path}/in']\n"
        pid = int(worker.stdout.readline())
        for shown in ("cmdline", "environ"):
            assert b"not-to-be-seen" not in Path(f"/proc/{pid}/{shown}").read_bytes()
        java = os.pidfd_open(pid)
        worker.kill()
        assert select.select([java], [], [], 60.0)[0]
        os.close(java)


def test_what_neither_hadoop_nor_fsspec_has_is_refused_with_what_to_do(served, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(import_module("fsspec.registry")._registry, "s3a", raising=False)
    monkeypatch.setattr(sparkhadoop, "_has", lambda context, scheme: False)
    with sparkhadoop.expecting():
        specs = specs_of(EXAMPLES / "wordcount.py", ["s3a://pail/in"], served.url("hdfs"))
    with pytest.raises(BadInput, match=r"cannot read s3a://pail/in: .*spark.jars.packages=org"):
        served.run(specs)


def test_what_has_to_be_read_before_spark_begins_is_refused_if_fsspec_cannot(monkeypatch):
    def refuse(url: str) -> None:
        raise OSError("no libhdfs\nlooked here and there")

    monkeypatch.setattr("fsspec.core.url_to_fs", refuse)
    said = "cannot read hdfs://nn/in before Spark begins, when keys are sampled: .*no libhdfs$"
    with sparkhadoop.expecting(), pytest.raises(BadInput, match=said):
        list(list_url("hdfs://nn/in"))
