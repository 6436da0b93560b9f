"""Input from S3, and output to it."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import signal
from collections import Counter
from importlib import import_module
from itertools import count
from pathlib import Path

import pytest
from outputs import Outputs, reserved, write
from processes import PYTXMR, TWISTD, WORDCOUNT, Cluster
from remoteinputs import Inputs
from servers import need, s3_server

from pytxmr.records import upload
from pytxmr.result import Result

need("fsspec", "s3fs")
fsspec = import_module("fsspec")
_numbers = count()
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "outputs.md"


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The server, for this process and those that it starts."""
    with s3_server(tmp_path_factory.mktemp("s3")) as env, pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        fsspec.config.conf.pop("s3", None)
        yield fsspec.filesystem("s3", skip_instance_cache=True)


class S3Place:
    requests_to_send = 3

    def __init__(self, filesystem, name: str) -> None:
        self._filesystem = filesystem
        self._name = name
        self.url = f"s3://bucket/{name}"

    def beside(self, number: int) -> S3Place:
        return S3Place(self._filesystem, f"{self._name}-{number}")

    def files(self) -> list[str]:
        prefix = f"{self._name}/"
        found = self._filesystem.call_s3("list_objects_v2", Bucket="bucket", Prefix=prefix)
        sent = self._filesystem.call_s3("list_multipart_uploads", Bucket="bucket", Prefix=prefix)
        return sorted(
            [item["Key"].removeprefix(prefix) for item in found.get("Contents", ())]
            + [f"upload of {item['Key']}" for item in sent.get("Uploads", ())]
        )

    def read(self, name: str) -> bytes:
        return self._filesystem.cat_file(f"bucket/{self._name}/{name}")

    def put(self, name: str, data: bytes) -> None:
        self._filesystem.pipe_file(f"bucket/{self._name}/{name}", data)

    def count(self, patch):
        import s3fs

        asked = Counter()
        real = s3fs.S3FileSystem._call_s3

        async def call(filesystem, verb, *args, **options):
            asked[verb] += 1
            return await real(filesystem, verb, *args, **options)

        patch.setattr(s3fs.S3FileSystem, "_call_s3", call)
        return lambda: asked

    def break_at(self, patch, breaks) -> None:
        import s3fs

        real = s3fs.S3FileSystem.call_s3
        reading = ("get_", "head_", "list_")

        def call(filesystem, verb, *args, **options):
            if not verb.startswith(reading):
                breaks()
            return real(filesystem, verb, *args, **options)

        patch.setattr(s3fs.S3FileSystem, "call_s3", call)


@pytest.fixture
def place(s3):
    return S3Place(s3, f"out{next(_numbers)}")


class TestInputsFromS3(Inputs):
    pass


class TestOutputsOnS3(Outputs):
    def test_a_part_that_is_sent_in_several_pieces_is_whole(self, place, monkeypatch):
        monkeypatch.setattr(upload, "_PIECE_BYTES", 5 << 20)  # as small as S3 takes them
        content = bytes(range(256)) * (11 << 12)
        out = reserved(place.url)
        part = write(out, "Reduce000.0", content)
        out.commit([part], {"job": "Job001"})
        assert place.read("part-00000") == content

    def test_what_nothing_else_opens_as_s3a_is_one_more_name_for_s3(self, place):
        out = reserved(place.url.replace("s3://", "s3a://"))
        part = write(out, "Reduce000.0", b"a")
        assert [name for name in place.files() if name.startswith("upload of ")]
        out.commit([part], {"job": "Job001"})
        assert place.files() == ["_SUCCESS", "part-00000"]


# ---- whole jobs

LINES = [f"the {word} of line {number}" for number in range(300) for word in ("word", "sea")]

JOB = """\
def mapper(key, value):
    if value == "bad":
        raise ValueError("a bad line")
    for word in value.split():
        yield word, 1

def reducer(key, values):
    yield key, sum(values)
"""


@pytest.fixture
def source(s3, place):
    """A directory of input."""
    url = f"{place.url}-in"
    text = "".join(f"{line}\n" for line in LINES).encode()
    s3.pipe_file(f"{url}/a.txt", text + b"bad\n")
    s3.pipe_file(f"{url}/more/b.txt.gz", gzip.compress(text))
    s3.pipe_file(f"{url}/_SUCCESS", b"{}")
    return url


def counted(url: str) -> Counter[str]:
    return Counter({word: int(n) for word, n in Result(url, {}, {}, 0.0)})


WANTED = Counter(word for line in LINES * 2 for word in line.split())


def test_what_the_page_on_outputs_tells_to_type_works(s3, site):
    (site.directory / "wordcount.py").write_bytes(WORDCOUNT.read_bytes())
    s3.pipe_file("s3://bucket/books/a.txt", "\n".join(LINES * 2).encode())
    (command,) = re.findall("^    pytxmr (run .*s3://.*)$", PAGE.read_text(), re.MULTILINE)
    done = site.pytxmr(*shlex.split(command))
    assert done.status == 0, done.err
    assert counted("s3://bucket/counts") == WANTED
    again = site.pytxmr(*shlex.split(command))
    assert again.status == 2
    assert "the output directory s3://bucket/counts exists already" in again.err
    assert "Traceback" not in again.err


def test_without_the_right_secret_a_job_is_refused_and_no_secret_is_told(s3, place, site):
    site.env["AWS_SECRET_ACCESS_KEY"] = "wrong-secret"
    done = site.pytxmr("run", WORDCOUNT, WORDCOUNT, "--output", place.url)
    assert done.status == 2
    assert f"pytxmr: cannot write to {place.url}: The request signature we calc" in done.err
    assert "wrong-secret" not in done.err + done.out
    assert "Traceback" not in done.err
    assert place.files() == []


@pytest.mark.daemons
def test_jobs_on_daemons_leave_all_on_s3_or_nothing(s3, source, place, site):
    """The second, whose jobtracker is killed in the middle of the commit, goes on with the next."""
    job = site.write("job.py", JOB)
    fails = site.write("fails.py", JOB.replace("yield key, sum(values)", "yield key"))
    cluster = Cluster(site)
    failing = ("env", "PYTXMR_FAILPOINT=commit-renamed:1:kill", *TWISTD)
    killed = cluster.start_jobtracker(failing)
    cluster.start_tracker("one")
    cluster.joined("one")
    # Of the two files one is read by a URL that is signed, so that anybody may read it.
    signed = s3.sign(f"{source}/a.txt")
    site.write("list.txt", f"{signed}\n{source}/more\n")
    words = ("@list.txt", "--output", place.url, "--reducers", 2, "--skip-bad-records", 1)
    failed = site.pytxmr("run", fails, *words)
    assert failed.status == 1
    assert "not a pair" in failed.err
    assert place.files() == []
    running = site.start(*PYTXMR, "run", job, *words)
    assert killed.ended() == 128 + signal.SIGKILL
    assert "_SUCCESS" not in place.files()
    cluster.start_jobtracker()
    assert running.ended() == 0, running.err
    assert counted(place.url) == WANTED
    assert place.files() == ["_SUCCESS", "_bad/Map001.jsonl", "part-00000", "part-00001"]
    assert json.loads(place.read("_bad/Map001.jsonl"))["file"] == f"{signed.partition('?')[0]}?..."
    cluster.close()
    said = [running, killed, cluster.jobtracker, cluster.trackers["one"]]
    for told in (failed.err, place.read("_SUCCESS").decode(), *(it.out + it.err for it in said)):
        assert "Signature" not in told
