"""Input by SFTP, and output by it."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from pathlib import Path

import pytest
from outputs import Outputs
from processes import WORDCOUNT
from servers import sftp_server

from pytxmr.result import Result

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def sftp(tmp_path_factory):
    """The server's URL, for this process and those that it starts."""
    with (
        sftp_server(tmp_path_factory.mktemp("sftp")) as (url, env),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in env.items():
            patch.setenv(name, value)
        yield url


class SftpPlace:
    requests_to_send = 1

    def __init__(self, server: str, directory: Path) -> None:
        self._server = server
        self._directory = directory
        self.url = f"{server}{directory}"

    def beside(self, number: int) -> SftpPlace:
        return SftpPlace(self._server, self._directory.with_name(f"beside-{number}"))

    def files(self) -> list[str]:
        return sorted(
            os.fspath(path.relative_to(self._directory))
            for path in self._directory.rglob("*")
            if not path.is_dir()
        )

    def read(self, name: str) -> bytes:
        return (self._directory / name).read_bytes()

    def put(self, name: str, data: bytes) -> None:
        self._directory.mkdir(exist_ok=True)
        (self._directory / name).write_bytes(data)

    def break_at(self, patch, breaks) -> None:
        from paramiko import SFTPClient

        for name in ("rename", "posix_rename", "remove", "rmdir", "mkdir", "open"):
            real = getattr(SFTPClient, name)

            def call(client, *args, real=real, **options):
                breaks()
                return real(client, *args, **options)

            patch.setattr(SFTPClient, name, call)


@pytest.fixture
def place(sftp, tmp_path):
    return SftpPlace(sftp, tmp_path / "out")


class TestOutputsBySftp(Outputs):
    @pytest.fixture(autouse=True)
    def _one_connection(self, sftp, monkeypatch):
        """Each test makes dozens, of 0.1 s each. That each has one of its own, whole jobs show."""
        import fsspec.core
        import paramiko

        real = fsspec.core.url_to_fs
        monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url, **options: real(url))
        monkeypatch.setattr(paramiko.SSHClient, "close", lambda client: None)


def test_a_job_reads_and_writes_by_sftp(sftp, place, site, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    text = "".join(f"the word of line {number}\n" for number in range(2000))
    (source / "a.txt").write_text(text)
    (source / "b.txt.gz").write_bytes(gzip.compress(text.encode()))
    (source / "_c.txt").write_text("not read\n")
    words = (WORDCOUNT, f"{sftp}{source}", "--output", place.url, "--workers", 2)
    done = site.pytxmr("run", *words, "--split-size", "20KB", "--reducers", 2)
    assert done.status == 0, done.err
    assert place.files() == ["_SUCCESS", "part-00000", "part-00001"]
    found = Counter({word: int(n) for word, n in Result(place.url, {}, {}, 0.0)})
    assert found == Counter((text * 2).split())
    again = site.pytxmr("run", *words)
    assert again.status == 2
    assert f"the output directory {place.url} exists already" in again.err


def test_without_the_right_key_a_job_is_refused(sftp, place, site):
    site.env["HOME"] = str(site.directory)
    site.env.pop("SSH_AUTH_SOCK", None)
    done = site.pytxmr("run", WORDCOUNT, WORDCOUNT, "--output", place.url)
    assert done.status == 2
    assert f"pytxmr: cannot write to {place.url}: " in done.err
    assert "Traceback" not in done.err
