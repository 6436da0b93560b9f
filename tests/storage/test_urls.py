"""Input behind URLs is listed, cut and read like input on this machine."""

from __future__ import annotations

import bz2
import gzip
import os
import subprocess
import sys
import traceback
import zipfile
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
from web import serving

import pytxmr
from pytxmr.client import JobOptions, make_spec
from pytxmr.errors import AttemptFailed, BadInput
from pytxmr.model import FileRange, InputSplit, shown_path
from pytxmr.records import remote
from pytxmr.records.readers import line_blocks, split_lines
from pytxmr.storage.inputs import CutWhereItMay, InputFile, absolute_names, list_inputs, plan_splits

fsspec = pytest.importorskip("fsspec")
IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent
WORDCOUNT = Path(__file__).resolve().parent.parent.parent / "examples" / "wordcount.py"
TEXT = b"".join(b"line %d of the text\n" % number for number in range(2000))


@pytest.fixture
def memory():
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


@pytest.fixture
def web(tmp_path):
    pytest.importorskip("aiohttp")
    (tmp_path / "www").mkdir()
    with serving(tmp_path / "www") as served:
        served.directory = tmp_path / "www"
        yield served


def listed(*urls):
    return [file.path for file in list_inputs(urls)]


def lines_of(path, split_bytes):
    cut = CutWhereItMay()
    splits = plan_splits(list_inputs([path]), split_bytes, cut)
    found = [
        line
        for split in splits
        for part in split.ranges
        for offset, data in line_blocks(part)
        for line in split_lines(offset, data)[1]
    ]
    return found, len(splits), cut.whole


# ---- which files


def test_directories_and_globs_behind_urls_are_what_they_are_here(memory):
    for name in ("a", "b/c", "b/d.txt", "b/_x", "b/.y", "_t/z", "part-0", "_SUCCESS"):
        memory.pipe(f"/in/{name}", name.encode())
    assert list_inputs(["memory://in/a"]) == [InputFile("memory://in/a", 1)]
    assert listed("memory://in") == [
        "memory://in/a",
        "memory://in/b/c",
        "memory://in/b/d.txt",
        "memory://in/part-0",
    ]
    assert listed("memory://in/b/*") == ["memory://in/b/c", "memory://in/b/d.txt"]
    assert listed("memory://in/**/*.txt") == ["memory://in/b/d.txt"]
    assert listed("memory://in/_*") == ["memory://in/_SUCCESS", "memory://in/_t/z"]
    assert listed("memory://in/_t") == ["memory://in/_t/z"]
    with pytest.raises(BadInput, match=r"no file matches memory://in/\*.gz"):
        listed("memory://in/*.gz")
    with pytest.raises(BadInput, match="cannot read memory://nowhere: No such file"):
        listed("memory://nowhere")


@pytest.mark.parametrize(
    ("manifest", "left_out"),
    [
        ('{"outputs": {"errors": [], "late": []}}', True),
        ('{"outputs": 7}', False),
        ("[]", False),
        ("\udcff", False),
        ("", False),
    ],
    ids=["ours", "odd", "list", "no JSON", "empty"],
)
def test_outputs_by_name_behind_a_url_are_left_out_as_here(memory, tmp_path, manifest, left_out):
    names = ("errors/part-0", "late.txt", "latest/a", "part-0", "x/late/a")
    for name in names:
        memory.pipe(f"/in/out/{name}", b"x")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    data = manifest.encode("utf-8", "surrogateescape")
    memory.pipe("/in/out/_SUCCESS", data)
    (tmp_path / "_SUCCESS").write_bytes(data)
    wanted = [name for name in names if not (left_out and name.startswith("errors/"))]
    assert listed(str(tmp_path)) == [f"{tmp_path}/{name}" for name in wanted]
    for url in ("memory://in", "memory://in/out", "memory://in/o*"):
        assert listed(url) == [f"memory://in/out/{name}" for name in wanted]
    assert listed("memory://in/out/errors") == ["memory://in/out/errors/part-0"]


def test_each_directory_is_listed_once_and_no_file_is_asked_for(memory, monkeypatch):
    for number in range(100):
        memory.pipe(f"/in/{number % 5}/{number}", b"x")
    calls = Counter()
    for name in ("ls", "info", "open", "cat_file"):
        real = getattr(memory, name)

        def counted(*args, name=name, real=real, **options):
            calls[name] += 1
            return real(*args, **options)

        monkeypatch.setattr(memory, name, counted)
    assert len(list_inputs(["memory://in"])) == 100
    assert calls["ls"] <= 7
    assert calls["info"] <= 3
    assert calls["open"] == calls["cat_file"] == 0


def test_members_of_an_archive_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", TEXT)
        archive.writestr("b/c.txt", b"one line\n")
    (url,) = absolute_names(["zip://**/*.txt::in.zip"])
    assert listed(url) == listed(f"zip://::{tmp_path}/in.zip")
    assert listed(url) == [f"zip://{name}::{tmp_path}/in.zip" for name in ("a.txt", "b/c.txt")]
    assert lines_of(url, 10_000)[0] == [*TEXT.splitlines(), b"one line"]


def test_each_job_sees_what_is_in_an_archive_by_then(tmp_path):
    url = f"zip://*::{tmp_path}/in.zip"
    for names in (["a"], ["a", "b"]):
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            for name in names:
                archive.writestr(name, b"x")
        assert listed(url) == [f"zip://{name}::{tmp_path}/in.zip" for name in names]


def test_files_of_a_web_server_are_found_by_its_listings(web):
    (web.directory / "logs").mkdir()
    for name in ("a.txt", "b.txt", "_c.txt"):
        (web.directory / "logs" / name).write_text(name)
    url = f"{web.url}/logs"
    assert listed(f"{url}/a.txt", f"{url}/_c.txt") == [f"{url}/a.txt", f"{url}/_c.txt"]
    assert listed(f"{url}/*.txt") == listed(f"{url}/") == [f"{url}/a.txt", f"{url}/b.txt"]
    with pytest.raises(BadInput, match=f"cannot read {url}/nothing: No such file"):
        listed(f"{url}/nothing")


def test_a_server_that_is_not_there_is_told(web):
    with pytest.raises(BadInput, match="cannot read http://127.0.0.1:1/x: "):
        listed("http://127.0.0.1:1/x")


# ---- reading


@pytest.mark.parametrize("split_bytes", [1 << 20, 10_000, 7777])
def test_a_file_of_a_web_server_is_read_by_ranges(web, split_bytes):
    (web.directory / "text").write_bytes(TEXT)
    found, splits, whole = lines_of(f"{web.url}/text", split_bytes)
    assert found == TEXT.splitlines()
    assert (splits, whole) == (-(-len(TEXT) // split_bytes), 0)
    assert all(ranged for method, _, ranged in web.requests if method == "GET")


def test_a_range_is_read_by_a_few_large_requests(web, monkeypatch):
    monkeypatch.setattr(remote, "_REQUEST_BYTES", 10_000)
    (web.directory / "text").write_bytes(TEXT)
    part = FileRange(f"{web.url}/text", 10_000, 30_000)
    expected = [line for block in line_blocks(part, 100) for line in block]
    assert expected
    assert sum(method == "GET" for method, _, _ in web.requests) <= 5


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ""])
def test_a_server_without_ranges_is_read_from_one_end_to_the_other(tmp_path, suffix):
    pytest.importorskip("aiohttp")
    compress = {".gz": gzip.compress, ".bz2": bz2.compress, "": bytes}[suffix]
    (tmp_path / f"text{suffix}").write_bytes(compress(TEXT))
    with serving(tmp_path, ranges=False) as served:
        found, splits, whole = lines_of(f"{served.url}/text{suffix}", 500)
        assert found == TEXT.splitlines()
        assert (splits, whole) == (1, 1)
        # Also if somebody cut it who did not know.
        url, size = f"{served.url}/text", len(TEXT)
        if not suffix:
            parts = [FileRange(url, 0, 9999), FileRange(url, 9999, size)]
            found = [split_lines(*block)[1] for part in parts for block in line_blocks(part)]
            assert sum(found, []) == TEXT.splitlines()


@pytest.mark.parametrize(("suffix", "cut"), [(".gz", False), (".bz2", True)])
def test_compressed_files_behind_urls_are_decompressed(web, suffix, cut):
    compress = {".gz": gzip.compress, ".bz2": bz2.compress}[suffix]
    half = len(TEXT) // 2
    (web.directory / f"t{suffix}").write_bytes(compress(TEXT[:half]) + compress(TEXT[half:]))
    found, splits, whole = lines_of(f"{web.url}/t{suffix}", 1000)
    assert found == TEXT.splitlines()
    assert (splits > 1, whole) == (cut, not cut)


def test_a_url_of_a_local_file_is_that_file(tmp_path):
    (tmp_path / "text").write_bytes(TEXT)
    assert lines_of(f"file://{tmp_path}/text", 1000)[0] == TEXT.splitlines()


def test_a_file_that_is_gone_or_breaks_off_fails_the_attempt_by_its_name(web, monkeypatch):
    url = f"{web.url}/text"
    with pytest.raises(AttemptFailed, match=f"{url}: No such file"):
        list(line_blocks(FileRange(url, 0, 10)))
    monkeypatch.setattr(remote, "_REQUEST_BYTES", 1000)
    (web.directory / "text").write_bytes(TEXT)
    blocks = line_blocks(FileRange(url, 0, len(TEXT)), 1000)
    assert next(blocks)[0] == 0
    (web.directory / "text").unlink()
    with pytest.raises(AttemptFailed, match=f"{url}: 404"):
        list(blocks)


# ---- what is refused


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuch://a/b", "cannot read nosuch://a/b: .*nosuch"),
        ("s3://bucket/key", r"cannot read s3://bucket/key: pip install 'pytxmr\[s3\]'"),
        ("sftp://me:secret@host/x", "cannot read sftp://...@host/x: a password on the command"),
    ],
)
def test_a_url_that_cannot_be_opened_is_refused_before_anything_runs(url, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(import_module("fsspec.registry")._registry, "s3", raising=False)
    with pytest.raises(BadInput, match=message) as told:
        list(absolute_names([url]))
    assert "secret" not in told.value.message


def test_without_fsspec_the_extra_that_brings_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(BadInput, match=r"pip install 'pytxmr\[fsspec\]'"):
        list(absolute_names(["s3://bucket/key"]))


def test_what_is_no_url_is_a_path():
    for name in ("a:b", "a/b://c", "C:\\x", "x::y", "://x", "2://x"):
        assert not remote.is_remote(name)
        assert list(absolute_names([name])) == [os.path.abspath(name)]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://host/out", "cannot write to http://host/out: nothing can be written there"),
        ("zip://out::a.zip", "cannot write to zip://out::.*a.zip: nothing can be written there"),
        ("nosuch://a/b", "cannot write to nosuch://a/b: .*nosuch"),
        ("sftp://me:secret@host/x", "cannot write to sftp://...@host/x: a password on the command"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(tmp_path, url, message):
    options = JobOptions(str(WORDCOUNT), (str(tmp_path),), url)
    with pytest.raises(BadInput, match=message) as told:
        make_spec(options)
    assert "secret" not in told.value.message


def test_an_output_at_the_url_of_a_local_directory_is_that_directory(tmp_path):
    options = JobOptions(str(WORDCOUNT), (str(tmp_path),), f"file://{tmp_path}/out")
    assert make_spec(options).output == f"{tmp_path}/out"
    with pytest.raises(BadInput, match=f"the output directory {tmp_path} exists already"):
        make_spec(JobOptions(str(WORDCOUNT), (str(tmp_path),), f"file://{tmp_path}"))


# ---- what is not shown

SIGNED = "?X-Amz-Credential=AKID%2F2026&X-Amz-Signature=5ec2e7"


def test_the_signature_of_a_url_is_not_shown_with_it():
    url = f"https://host/b/a.gz{SIGNED}"
    assert shown_path(url) == "https://host/b/a.gz?..."
    assert shown_path(f"404, url='{url}', x") == "404, url='https://host/b/a.gz?...', x"
    assert shown_path(f"zip://a.txt::{url}") == "zip://a.txt::https://host/b/a.gz?..."
    for plain in ("s3://b/a?.txt", "/home/a?b=c", "https://host/a.txt"):
        assert shown_path(plain) == plain


def test_no_error_over_a_signed_url_tells_the_signature(web, monkeypatch):
    def told(error):
        return "".join(traceback.format_exception(error))

    (web.directory / "text").write_bytes(TEXT)
    url = f"{web.url}/text{SIGNED}"
    assert list_inputs([url]) == [InputFile(url, len(TEXT))]
    part = FileRange(url, 0, len(TEXT))
    monkeypatch.setattr(remote, "_REQUEST_BYTES", 1000)
    blocks = line_blocks(part, 1000)
    next(blocks)
    (web.directory / "text").unlink()
    with pytest.raises(AttemptFailed, match=r"/text\?\.\.\.: 404") as broken_off:
        list(blocks)
    with pytest.raises(BadInput, match=r"cannot read .*/text\?\.\.\.: ") as gone:
        list_inputs([url])
    for error in (broken_off.value, gone.value):
        assert "5ec2e7" not in told(error) + repr(getattr(error, "details", ""))
    assert "5ec2e7" not in str(InputSplit((part,)))


# ---- whole jobs


def test_a_job_reads_a_web_server_in_its_workers(web, tmp_path):
    (web.directory / "in").mkdir()
    (web.directory / "in" / "a.txt").write_bytes(TEXT)
    (web.directory / "in" / "b.txt.gz").write_bytes(gzip.compress(TEXT))
    done = subprocess.run(
        [sys.executable, "-m", "pytxmr", "run", WORDCOUNT, f"{web.url}/in/"]
        + ["--output", "out", "--workers", "2", "--split-size", "10000"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.fspath(IMPORTED_FROM)},
        capture_output=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    lines = b"".join(part.read_bytes() for part in (tmp_path / "out").glob("part-*")).splitlines()
    found = {word: int(count) for word, count in (line.split(b"\t") for line in lines)}
    assert found == Counter((TEXT * 2).split())
