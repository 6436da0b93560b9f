"""Which kind of output a path or a URL is of: here, on S3, or elsewhere behind a URL."""

from __future__ import annotations

import os

from pytxmr.errors import BadInput
from pytxmr.records.remote import checked_url, is_remote, is_s3
from pytxmr.storage.output import Output, OutputDirectory


def output_at(path: str, owner: str) -> Output:
    """The output at an absolute path or a URL. ``owner`` is a name that no other job has."""
    if not is_remote(path):
        return OutputDirectory(path, owner)
    if is_s3(path):  # few outputs are behind URLs
        from pytxmr.storage.s3output import S3Output

        return S3Output(path, owner)
    from pytxmr.storage.remoteoutput import RemoteDirectory

    return RemoteDirectory(path, owner)


def absolute_output(named: str) -> str:
    """The output that was named on a command line: an absolute path, or a URL. Raises `BadInput`
    for a URL behind which there can be none."""
    named = named.removeprefix("file://")
    if not is_remote(named):
        return os.path.abspath(named)
    url = checked_url(named, "write to").rstrip("/")
    protocol = url.partition("://")[0]
    if "::" in url or protocol in ("http", "https", "memory", "data"):
        raise BadInput(f"cannot write to {url}: nothing can be written there")
    return url


def check_free(output: str) -> None:
    """Raises `BadInput` if something is there already, and it is on this machine. Whoever plans the
    job looks behind URLs."""
    if not is_remote(output) and os.path.lexists(output):
        raise BadInput(f"the output directory {output} exists already; remove it or name another")
