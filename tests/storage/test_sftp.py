"""Input by SFTP, and output by it."""

from __future__ import annotations

import gzip
import os
import shutil
from collections import Counter
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from outputs import Outputs
from processes import WORDCOUNT
from remoteinputs import Inputs
from servers import need, sftp_server

from pytxmr.errors import BadInput
from pytxmr.model import FileRange
from pytxmr.records.readers import line_blocks
from pytxmr.result import Result
from pytxmr.storage.inputs import InputFile, list_inputs

need("fsspec", "paramiko")
module = import_module("pytxmr.records.sftp")


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
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def count(self, patch):
        from paramiko import SFTPClient

        asked = Counter()
        for name in ("stat", "lstat", "listdir_iter", "open"):
            real = getattr(SFTPClient, name)

            def call(client, *args, real=real, name=name, **options):
                asked[name] += 1
                return real(client, *args, **options)

            patch.setattr(SFTPClient, name, call)
        return lambda: asked

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


class TestInputsBySftp(Inputs):
    pass


class TestOutputsBySftp(Outputs):
    @pytest.fixture(autouse=True)
    def _one_connection(self, sftp, monkeypatch):
        """Each test makes dozens, of 0.1 s each. That each has one of its own, whole jobs show."""
        import paramiko

        real = module.sftp_filesystem
        monkeypatch.setattr(module, "sftp_filesystem", lambda url, own: real(url, False))
        monkeypatch.setattr(paramiko.SSHClient, "close", lambda client: None)


def test_a_job_reads_and_writes_by_sftp(sftp, place, site, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    text = "".join(f"the word of line {number}\n" for number in range(2000))
    (source / "a.txt").write_text(text)
    (source / "b.txt.gz").write_bytes(gzip.compress(text.encode()))
    (source / "_c.txt").write_text("not read\n")
    words = (WORDCOUNT, f"{sftp}{source}", "--output", place.url, "--workers", 2)
    words += ("--reuse-dir", "kept")  # which has what is here, and no part that is elsewhere
    done = site.pytxmr("run", *words, "--split-size", "20KB", "--reducers", 2)
    assert done.status == 0, done.err
    assert place.files() == ["_SUCCESS", "part-00000", "part-00001"]
    found = Counter({word: int(n) for word, n in Result(place.url, {}, {}, 0.0)})
    assert found == Counter((text * 2).split())
    again = site.pytxmr("run", *words)
    assert again.status == 2
    assert f"the output directory {place.url} exists already" in again.err


STEPS = """\
from pytxmr import pipeline

counts = pipeline.input().flat_map(str.split).count()
output = counts.map(lambda pair: pair[1]).count()
"""


def test_the_steps_of_a_job_leave_what_they_store_in_a_directory_here(sftp, place, site):
    job = site.write("job.py", STEPS)
    text = site.write("in.txt", "a b c a b a\n")
    words = ("run", job, text, "--output", place.url, "--runner", "inline", "--reducers", 1)
    refused = site.pytxmr(*words)
    assert refused.status == 2
    assert "say by --steps DIR where they leave their results" in refused.err
    done = site.pytxmr(*words, "--steps", "between")
    assert done.status == 0, done.err
    assert place.read("part-00000") == b"1\t1\n2\t1\n3\t1\n"
    assert not (site.directory / "between").exists()


# ---- who the server is, and who we are


def test_a_host_is_what_the_user_s_own_configuration_says(sftp, tmp_path, monkeypatch):
    port, keys = sftp.rpartition(":")[2], f"{os.environ['HOME']}/.ssh"
    (tmp_path / "text").write_text("a line\n")
    with fresh_home(tmp_path, monkeypatch) as ssh:
        (ssh / "id_ed25519").unlink()
        text = f"Host archive\n  HostName 127.0.0.1\n  Port {port}\n"
        (ssh / "config").write_text(f"{text}  IdentityFile {keys}/id_ed25519\n")
        url = f"sftp://archive{tmp_path}/text"
        assert list_inputs([url]) == [InputFile(url, 7)]
        assert [bytes(data) for _, data in line_blocks(FileRange(url, 0, 7))] == [b"a line\n"]


@contextmanager
def fresh_home(directory, monkeypatch):
    """The directory ``.ssh`` of a home that has the user's key and nothing else."""
    ssh = directory / "home" / ".ssh"
    ssh.mkdir(parents=True)
    shutil.copy(f"{os.environ['HOME']}/.ssh/id_ed25519", ssh)
    monkeypatch.setenv("HOME", str(ssh.parent))
    yield ssh


@pytest.mark.parametrize("strict", [False, True], ids=["usual", "strict"])
def test_a_server_that_is_known_by_another_key_is_refused(sftp, tmp_path, monkeypatch, strict):
    host, port = sftp.removeprefix("sftp://").split(":")
    home = Path(os.environ["HOME"])
    theirs = (home.parent / "host_key.pub").read_text()
    others = (home / ".ssh" / "id_ed25519.pub").read_text()
    url = f"{sftp}{tmp_path}/"
    (tmp_path / "text").write_text("a line\n")
    with fresh_home(tmp_path, monkeypatch) as ssh:
        if strict:
            (ssh / "config").write_text("Host *\n  StrictHostKeyChecking yes\n")
        for key, message in (("", "has no key"), (others, "has another key"), (theirs, "")):
            (ssh / "known_hosts").write_text(f"[{host}]:{port} {key}" if key else "")
            module.Sftp.clear_instance_cache()
            if message and (key or strict):
                with pytest.raises(BadInput, match=f"cannot read {url}text: .* {message}"):
                    list_inputs([f"{url}text"])
            else:
                assert len(list_inputs([f"{url}text"])) == 1


def test_a_connection_that_broke_is_made_again(sftp, tmp_path):
    (tmp_path / "text").write_text("a line\n")
    url = f"{sftp}{tmp_path}/text"
    assert list_inputs([url]) == [InputFile(url, 7)]
    filesystem, _ = module.sftp_filesystem(url, own=False)
    filesystem.client.close()
    assert list_inputs([url]) == [InputFile(url, 7)]


def test_without_the_right_key_a_job_is_refused(sftp, place, site):
    site.env["HOME"] = str(site.directory)
    site.env.pop("SSH_AUTH_SOCK", None)
    done = site.pytxmr("run", WORDCOUNT, WORDCOUNT, "--output", place.url)
    assert done.status == 2
    assert f"pytxmr: cannot write to {place.url}: " in done.err
    assert "Traceback" not in done.err
