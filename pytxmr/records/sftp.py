"""SFTP as OpenSSH's users have it set up: by ``~/.ssh/config`` and ``~/.ssh/known_hosts``.

What fsspec has knows neither, and takes whoever answers for the server, whatever key that shows.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem
from fsspec.utils import infer_storage_options

#: For each step of connecting; and how long a server may be silent while it is waited for.
_CONNECT_SECONDS = 20.0
_SILENT_SECONDS = 120.0
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")


class Sftp(SFTPFileSystem):
    """A connection to an SFTP server. Raises `OSError` and what paramiko does."""

    def _connect(self) -> None:
        options: dict[str, Any] = {"timeout": _CONNECT_SECONDS, "banner_timeout": _CONNECT_SECONDS}
        options |= {"auth_timeout": _CONNECT_SECONDS} | self.ssh_kwargs
        strict = options.pop("strict", False)
        self.client = paramiko.SSHClient()
        self.client.set_missing_host_key_policy(_KnownHosts(strict))
        self.client.connect(self.host, **options)
        self.ftp = self.client.open_sftp()
        channel: Any = self.ftp.get_channel()
        channel.settimeout(_SILENT_SECONDS)

    def is_connected(self) -> bool:
        transport = self.client.get_transport()
        return transport is not None and transport.is_active()


def sftp_filesystem(url: str, own: bool) -> tuple[Sftp, str]:
    """The filesystem of a URL, and the path in it; with ``own``, by a connection of its own, else
    by the one that there is, if it holds."""
    given = infer_storage_options(url)
    config = _configured(given["host"])
    options = {
        name: value
        for name, value in (
            ("username", given.get("username") or config.get("user")),
            ("port", given.get("port") or int(config.get("port", 22))),
            ("key_filename", config.get("identityfile")),
            ("strict", config.get("stricthostkeychecking") == "yes"),
        )
        if value
    }
    filesystem = Sftp(config.get("hostname", given["host"]), **options, skip_instance_cache=own)
    if not filesystem.is_connected():
        filesystem._connect()
    return filesystem, given["path"]


def _configured(host: str) -> dict[str, Any]:
    """What ``~/.ssh/config`` says of a host."""
    try:
        config = paramiko.SSHConfig.from_path(os.path.expanduser("~/.ssh/config"))
    except OSError:
        return {}
    return dict(config.lookup(host))


class _KnownHosts(paramiko.MissingHostKeyPolicy):
    """A server that is known by another key is refused; one that is not known only if the host's
    configuration is ``strict``."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        known = paramiko.HostKeys()
        for path in _KNOWN_HOSTS:
            with suppress(OSError):
                known.load(os.path.expanduser(path))
        keys = known.lookup(hostname)
        if keys is None and not self._strict:
            return
        if keys is None or keys.get(key.get_name()) != key:
            whose = "no key" if keys is None else "another key"
            raise paramiko.SSHException(
                f"{_KNOWN_HOSTS[0]} has {whose} of {hostname}: if it is the right server, add what "
                f"ssh-keyscan tells of it"
            )
