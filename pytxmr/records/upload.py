"""Files that attempts write to other filesystems, for outputs that are URLs.

An attempt writes a file without a name on this machine, and sends it when it is whole. It goes
beside the output, under a name that no other attempt has::

    URL/_temporary/OWNER/Reduce000.0

Most filesystems can rename, and the file goes there; see `storage.remoteoutput`. S3 cannot. There,
unless Hadoop writes to it, the file is sent as a multipart upload of the part that it is to become,
and the upload is not completed: nobody sees it. The object at the name above is a note of it, in
JSON::

    {"key": "DIR/part-00000", "upload": UPLOAD_ID, "etags": [...], "bytes": N}

Whoever commits the job completes the uploads of the winners; see `storage.s3output`. An attempt
that finds when it has sent all that its job is over takes back what it has sent.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from pytxmr.errors import AttemptFailed, NotFound
from pytxmr.model import AttemptId
from pytxmr.records.remote import is_s3, own_filesystem, reason_of, scratch_directory

TEMPORARY = "_temporary"
#: The name, below `TEMPORARY`, of what says whose an output on S3 is, or one that Hadoop writes.
MARKER = "_owner"
#: The name, beside what attempts write elsewhere, of a file that is there while the job goes on.
ABOVE = "_above"
#: What says of an object of S3 which attempt has written it.
ATTEMPT = "pytxmr-attempt"
#: Bytes that are sent in one request to S3, which takes up to `_MOST_PIECES` of 5 MiB and more.
_PIECE_BYTES = 16 << 20
_MOST_PIECES = 10_000
_COPY_BYTES = 1 << 20
_MOST_READ = 64 << 20


def bucket_and_key(url: str) -> tuple[str, str]:
    bucket, _, key = url.partition("://")[2].partition("/")
    return bucket, key.rstrip("/")


def to_be_sent() -> IO[bytes]:
    """A file to write, which is gone when it is closed, however that comes about."""
    return tempfile.TemporaryFile(dir=scratch_directory(), buffering=1 << 18)


def _untold(size: int) -> None:
    """Nobody wants to know."""


def send(
    file: IO[bytes], url: str, suffix: str = "", sent: Callable[[int], object] = _untold
) -> None:
    """Send a file that an attempt has written to its ``url``, as that of a part of the output whose
    name ends in ``suffix``. ``sent`` is called now and then with how many bytes more are there.

    Raises `AttemptFailed`; then nothing is left there, as far as it can be reached.
    """
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if is_s3(url):
            _send_to_s3(file, size, url, suffix, sent)
        else:
            _copy(file, size, url, sent)
    except AttemptFailed:
        raise
    except Exception as error:  # each library has errors of its own
        raise AttemptFailed(f"cannot write {url}: {reason_of(error)}") from error


def _copy(file: IO[bytes], size: int, url: str, sent: Callable[[int], object]) -> None:
    with own_filesystem(url) as (filesystem, path):

        def check_going_on() -> None:
            filesystem.invalidate_cache()
            if not filesystem.exists(f"{os.path.dirname(path)}/{ABOVE}"):
                raise AttemptFailed(f"cannot write {url}: the job is over, and its place is gone")

        check_going_on()
        try:
            # Not ``put_file``, which would make the directory again.
            with filesystem.open(path, "wb") as target:
                if hasattr(target, "set_pipelined"):  # SFTP: else each 32 KiB wait for an answer
                    target.set_pipelined(True)
                while data := file.read(_COPY_BYTES):
                    target.write(data)
                    sent(len(data))
            if (there := filesystem.info(path)["size"]) != size:
                raise OSError(f"{there} of {size} bytes have arrived")
            # Last: the job's end removes that file first, and then looks for what we have sent.
            check_going_on()
        except BaseException:
            with suppress(Exception):
                _take_back(filesystem, path)
            raise


def _take_back(filesystem: Any, path: str) -> None:
    """Remove what was sent; if the job is over, with the directories that this has made again, as
    it does where they are but parts of names."""
    filesystem.rm_file(path)
    own = os.path.dirname(path)
    if not filesystem.exists(f"{own}/{ABOVE}"):
        temporary = os.path.dirname(own)
        for directory in (own, temporary, os.path.dirname(temporary)):
            remove_empty(filesystem, directory)


def remove_empty(filesystem: Any, directory: str) -> None:
    """Remove a directory, unless there is something in it."""
    if not filesystem.ls(directory, detail=False):
        filesystem.rmdir(directory)
        if filesystem.exists(directory):  # for WebHDFS, fsspec has no rmdir, but this
            filesystem.rm(directory)


def _send_to_s3(
    file: IO[bytes], size: int, url: str, suffix: str, sent: Callable[[int], object]
) -> None:
    directory, _, own = url.rpartition(f"/{TEMPORARY}/")
    owner, _, name = own.partition("/")
    bucket, prefix = bucket_and_key(directory)
    note = f"{prefix}/{TEMPORARY}/{own}"
    with own_filesystem(url) as (filesystem, _):
        ask = filesystem.call_s3

        def check_owner() -> None:
            if not is_owner(filesystem, bucket, prefix, owner):
                raise AttemptFailed(f"cannot write {url}: the job is over, and its place is gone")

        check_owner()
        part, metadata = part_of(name), {ATTEMPT: own}
        if part is None:  # what is no part, as bad records are, goes there as it is
            ask("put_object", Bucket=bucket, Key=note, Body=file.read(), Metadata=metadata)
            return
        key = f"{prefix}/{part}{suffix}"
        begun = ask("create_multipart_upload", Bucket=bucket, Key=key, Metadata=metadata)
        upload = {"Bucket": bucket, "Key": key, "UploadId": begun["UploadId"]}
        try:
            etags: list[str] = []
            piece_bytes = max(_PIECE_BYTES, -(-size // _MOST_PIECES))
            # An empty file is one empty piece.
            while (piece := file.read(piece_bytes)) or not etags:
                number = len(etags) + 1
                done = ask("upload_part", **upload, PartNumber=number, Body=piece)
                etags.append(done["ETag"])
                sent(len(piece))
            text = {"key": key, "upload": upload["UploadId"], "etags": etags, "bytes": size}
            ask("put_object", Bucket=bucket, Key=note, Body=json.dumps(text).encode())
            # Last: the job's end removes the mark first, and then looks for what we have sent.
            check_owner()
        except BaseException:
            with suppress(Exception):
                ask("abort_multipart_upload", **upload)
            with suppress(Exception):
                ask("delete_object", Bucket=bucket, Key=note)
            raise


def is_owner(filesystem: Any, bucket: str, prefix: str, owner: str) -> bool:
    """Does the mark of an output on S3 say that it is of that job?"""
    try:
        return read_object(filesystem, bucket, f"{prefix}/{TEMPORARY}/{MARKER}") == owner.encode()
    except FileNotFoundError:
        return False


def read_object(filesystem: Any, bucket: str, key: str) -> bytes:
    """A small object that is not empty, by one request."""
    data: bytes = filesystem.cat_file(f"{bucket}/{key}", start=0, end=_MOST_READ)
    return data


def part_of(name: str) -> str | None:
    """The name, relative to the output, of the part that an attempt has written to that of its own;
    None if that is no part."""
    attempt, _, output = name.partition("@")
    try:
        part = f"part-{AttemptId.parse(attempt).task.index:05d}"
    except NotFound:
        return None
    return f"{output}/{part}" if output else part
