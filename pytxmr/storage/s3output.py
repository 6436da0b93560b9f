"""The output of a job on S3, which cannot rename, and which can complete an upload in one step.

::

    DIR/_temporary/_owner              whose DIR is: made by a conditional put, so by one job only
    DIR/_temporary/OWNER/Reduce000.0   what attempt 0 of reduce 0 has sent: a note of an upload that
                                       is whole, and not completed (see `records.upload`)
    DIR/_temporary/OWNER/Map001.0.bad  the records that attempt 0 of map 1 has set aside, if any
    DIR/part-00000                     the winner, there when its upload is completed
    DIR/_bad/Map001.jsonl              a copy of what the attempt that counts has set aside
    DIR/_SUCCESS                       the manifest, made last, by a conditional put

An upload that is not completed is seen by nobody who lists DIR, and only who commits completes any:
so an attempt that lost, failed or goes on when its job is over never shows, whatever it sends. Each
part carries the name of its attempt, as metadata. So a commit that is made again knows what it has
done, and nobody removes or overwrites a part of somebody else.

At the end, uploads that are left are ended, then the mark goes, and then what the notes speak of.
An attempt looks for the mark after it has written its note: one of the two sees the other. What is
left all the same is of processes that were killed while they sent: a rule for the bucket that ends
incomplete uploads after some days is good practice anyway.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from pytxmr.errors import BadInput, PytxmrError
from pytxmr.failpoints import fail_point
from pytxmr.model import AttemptId
from pytxmr.records.remote import own_filesystem, reason_of
from pytxmr.records.upload import (
    ATTEMPT,
    MARKER,
    TEMPORARY,
    bucket_and_key,
    is_owner,
    part_of,
    read_object,
)
from pytxmr.storage.output import BAD, BAD_FILE, SUCCESS, Part, is_part, manifest_text
from pytxmr.storage.patience import patiently

_log = logging.getLogger(__name__)
#: Requests that are under way at a time, where there are many to make.
_AT_A_TIME = 16
#: Keys that one request deletes, at the most.
_MOST_DELETED = 1000
_TRIES = 5


class S3Output:
    """See `output.OutputDirectory`, which promises the same."""

    def __init__(self, path: str, owner: str) -> None:
        self.path = path.rstrip("/")
        self._owner = owner
        self._bucket, self._prefix = bucket_and_key(path)
        self._mark = f"{TEMPORARY}/{MARKER}"
        self._own = f"{TEMPORARY}/{owner}/"

    def attempt_path(self, attempt: str) -> str:
        return f"{self.path}/{self._own}{attempt}"

    def bad_path(self, attempt: str) -> str:
        """Where an attempt sets bad records aside."""
        return self.attempt_path(f"{attempt}.bad")

    # ---- at the beginning

    def reserve(self) -> None:
        """Mark the directory, in which nothing may be. Raises `BadInput`."""
        if not self._bucket or not self._prefix:
            raise BadInput(f"cannot write to {self.path}: name a directory, s3://BUCKET/DIR")
        try:
            with own_filesystem(self.path) as (filesystem, _):
                self._reserve(_Bucket(filesystem, self._bucket, self._prefix))
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(f"cannot write to {self.path}: {reason_of(error)}") from error

    def _reserve(self, bucket: _Bucket) -> None:
        taken = f"the output directory {self.path} exists already; remove it or name another"
        # First, since some servers make a bucket for whoever puts something there.
        if bucket.first_names(1):
            raise BadInput(taken)
        mark = self._owner.encode()
        # It may be there because our own request was made twice.
        if not bucket.put_new(self._mark, mark) and not bucket.is_of(self._owner):
            raise BadInput(f"another job has just begun to write to {self.path}; name another")
        try:
            if bucket.put_new(self._mark, mark):
                raise BadInput(
                    f"cannot write to {self.path}: the server does not heed If-None-Match, so two "
                    f"jobs might write to one directory; write to one of this machine, and copy it"
                )
            if set(bucket.first_names(2)) - {self._mark}:
                raise BadInput(taken)
        except BaseException:
            bucket.delete([self._mark])
            raise

    # ---- at the end

    def commit(
        self,
        parts: Iterable[Part],
        manifest: dict[str, Any],
        bad: Iterable[tuple[str, str]] = (),
        suffix: str = "",
    ) -> None:
        """Complete the winners' uploads, then put ``_SUCCESS``. Raises `PytxmrError`. A server that
        is away is waited for.

        May be repeated with the same arguments, whether it was cut short or not.
        """
        parts, bad = list(parts), list(bad)

        def commit() -> None:
            with own_filesystem(self.path) as (filesystem, _):
                bucket = _Bucket(filesystem, self._bucket, self._prefix)
                self._commit(bucket, parts, manifest, bad, suffix)

        patiently(commit, self.path)

    def _commit(
        self,
        bucket: _Bucket,
        parts: list[Part],
        manifest: dict[str, Any],
        bad: list[tuple[str, str]],
        suffix: str,
    ) -> None:
        named = {_name_of(part, suffix): part for part in parts}
        there = bucket.sizes()
        bucket.all_of(
            lambda item: self._complete(bucket, item[0], item[1], item[0] in there), named.items()
        )
        set_aside = [self._place_bad(bucket, there, *one) for one in bad]
        there = bucket.sizes()
        strange = [name for name in there if is_part(name) and name not in named]
        if strange:
            raise PytxmrError(f"{self.path}/{strange[0]} is not of this job: remove it")
        for name, part in named.items():
            if there.get(name) != part.size_bytes:
                raise PytxmrError(
                    f"{self.path}/{name} has {there.get(name)} bytes, not {part.size_bytes}"
                )
        listed: dict[str, list[dict[str, Any]]] = {"": []}
        for name, part in named.items():
            entry = {"name": name, "bytes": part.size_bytes, "sha256": part.digest}
            listed.setdefault(part.output, []).append(entry)
        parts_listed = listed.pop("")
        if listed:
            manifest = manifest | {"outputs": listed}
        if set_aside:
            manifest = manifest | {"bad": set_aside}
        data = manifest_text(manifest | {"owner": self._owner, "parts": parts_listed})
        fail_point("commit-before-success")
        if not bucket.put_new(SUCCESS, data) and bucket.read(SUCCESS) != data:
            raise PytxmrError(f"{self.path}/{SUCCESS} is there, and not of this job")
        fail_point("commit-after-success")
        # The output is whole: what cannot be cleared away now disturbs nobody.
        with suppress(Exception):
            self._clear(bucket, {part.file for part in parts})

    def _complete(self, bucket: _Bucket, name: str, part: Part, is_there: bool) -> None:
        if not is_there:
            try:
                note = json.loads(bucket.read(f"{self._own}{part.file}"))
            except FileNotFoundError:
                raise PytxmrError(
                    f"{self.path}/{name}: {part.attempt} has left nothing there"
                ) from None
            if note["key"] != bucket.key(name) or note["bytes"] != part.size_bytes:
                raise PytxmrError(f"{self.path}/{name}: {part.attempt} has sent something else")
            is_there = not bucket.complete(name, note["upload"], note["etags"])
            fail_point("commit-renamed")
        if is_there and bucket.attempt_of(name) != f"{self._owner}/{part.file}":
            raise PytxmrError(f"{self.path}/{name} is there, and not of this job")

    def _place_bad(
        self, bucket: _Bucket, there: dict[str, int], attempt: str, task: str
    ) -> dict[str, Any]:
        name, source = f"{BAD}/{task}.jsonl", f"{self._own}{attempt}.bad"
        if name not in there:
            bucket.copy(source, name)
        return {"name": name, "bytes": there.get(source, there.get(name))}

    def _clear(self, bucket: _Bucket, winners: Iterable[str] = ()) -> None:
        """Take away what is left of attempts, and the mark."""
        for name, upload in bucket.uploads():
            bucket.abort(name, upload)
        bucket.delete([self._mark])
        notes = bucket.sizes(self._own)
        for name in notes:
            attempt = name.removeprefix(self._own)
            if attempt in winners or part_of(attempt) is None:
                continue
            with suppress(FileNotFoundError):
                note = json.loads(bucket.read(name))
                bucket.abort(note["key"].removeprefix(bucket.key("")), note["upload"])
        bucket.delete(notes)

    def manifest(self) -> dict[str, Any]:
        """What ``_SUCCESS`` says; empty if there is none, or if it is not one of ours."""
        try:
            with own_filesystem(self.path) as (filesystem, _):
                found = json.loads(_Bucket(filesystem, self._bucket, self._prefix).read(SUCCESS))
        except Exception:
            return {}
        return found if isinstance(found, dict) else {}

    def discard(self, job: str = "") -> None:
        """Remove what the job has written, which was committed if ``_SUCCESS`` is of that ``job``.
        Somebody else's files stay. If the server is away, all stays, and is told of."""
        try:
            with own_filesystem(self.path) as (filesystem, _):
                self._discard(_Bucket(filesystem, self._bucket, self._prefix), job)
        except Exception as error:
            _log.warning("cannot remove what is left in %s: %s", self.path, reason_of(error))

    def _discard(self, bucket: _Bucket, job: str) -> None:
        committed = bool(job) and self.manifest().get("owner") == self._owner
        if not committed and not bucket.is_of(self._owner):
            return
        written = [
            name
            for name in bucket.sizes()
            if is_part(name)
            or (name.startswith(f"{BAD}/") and BAD_FILE.fullmatch(name.removeprefix(f"{BAD}/")))
        ]
        whose = bucket.all_of(bucket.attempt_of, written)
        ours = [
            name
            for name, attempt in zip(written, whose, strict=True)
            if attempt.startswith(f"{self._owner}/")
        ]
        bucket.delete(ours)
        # What says whose all this is goes last.
        if committed:
            bucket.delete([SUCCESS])
        self._clear(bucket)


class _Bucket:
    """What is below a prefix of a bucket. Names are relative to that. Raises what s3fs does."""

    def __init__(self, filesystem: Any, bucket: str, prefix: str) -> None:
        self._filesystem = filesystem
        self._bucket = bucket
        self._prefix = prefix

    def key(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _ask(self, verb: str, name: str | None = None, **options: Any) -> dict[str, Any]:
        if name is not None:
            options["Key"] = self.key(name)
        answer: dict[str, Any] = self._filesystem.call_s3(verb, Bucket=self._bucket, **options)
        return answer

    def all_of(self, act: Any, items: Iterable[Any]) -> list[Any]:
        """Do the same for each of the items, for some at a time."""
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            return list(pool.map(act, items))

    def first_names(self, most: int) -> list[str]:
        """Of what is there, but for an empty object that stands for the directory itself."""
        found = self._ask("list_objects_v2", Prefix=self.key(""), MaxKeys=most + 1)
        names = [item["Key"].removeprefix(self.key("")) for item in found.get("Contents", ())]
        return list(filter(None, names))[:most]

    def sizes(self, below: str = "") -> dict[str, int]:
        """What is there, and how large it is."""
        found: dict[str, int] = {}
        more: dict[str, Any] = {}
        while True:
            answer = self._ask("list_objects_v2", Prefix=self.key(below), **more)
            for item in answer.get("Contents", ()):
                found[item["Key"].removeprefix(self.key(""))] = item["Size"]
            if not answer.get("IsTruncated"):
                found.pop("", None)
                return found
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def read(self, name: str) -> bytes:
        return read_object(self._filesystem, self._bucket, self.key(name))

    def is_of(self, owner: str) -> bool:
        return is_owner(self._filesystem, self._bucket, self._prefix, owner)

    def put_new(self, name: str, data: bytes) -> bool:
        """Put what is not there yet; whether it was not."""
        return self._if_new("put_object", name, Body=data)

    def complete(self, name: str, upload: str, etags: list[str]) -> bool:
        """Have an upload become what is not there yet; False if it is there, or no upload is."""
        pieces = [{"PartNumber": at, "ETag": etag} for at, etag in enumerate(etags, 1)]
        try:
            return self._if_new(
                "complete_multipart_upload",
                name,
                UploadId=upload,
                MultipartUpload={"Parts": pieces},
            )
        except FileNotFoundError:
            return False

    def _if_new(self, verb: str, name: str, **options: Any) -> bool:
        for left in reversed(range(_TRIES)):
            try:
                self._ask(verb, name, IfNoneMatch="*", **options)
            except Exception as error:
                match _status_of(error):
                    case 412:
                        return False
                    case 409 if left:  # somebody else tries the same just now
                        continue
                raise
            return True
        raise AssertionError("not reached")

    def attempt_of(self, name: str) -> str:
        """Which attempt has written it; nothing if none of ours."""
        try:
            return str(self._ask("head_object", name).get("Metadata", {}).get(ATTEMPT, ""))
        except FileNotFoundError:
            return ""

    def copy(self, source: str, target: str) -> None:
        place = {"Bucket": self._bucket, "Key": self.key(source)}
        self._ask("copy_object", target, CopySource=place)

    def delete(self, names: Iterable[str]) -> None:
        keys = [{"Key": self.key(name)} for name in names]
        for at in range(0, len(keys), _MOST_DELETED):
            gone = {"Objects": keys[at : at + _MOST_DELETED], "Quiet": True}
            for failed in self._ask("delete_objects", Delete=gone).get("Errors", ()):
                raise OSError(f"cannot delete {failed['Key']}: {failed.get('Message')}")

    def uploads(self) -> Iterator[tuple[str, str]]:
        """Names and ids of the uploads that are not completed."""
        more: dict[str, Any] = {}
        while True:
            answer = self._ask("list_multipart_uploads", Prefix=self.key(""), **more)
            for upload in answer.get("Uploads", ()):
                yield upload["Key"].removeprefix(self.key("")), upload["UploadId"]
            if not answer.get("IsTruncated"):
                return
            more = {
                "KeyMarker": answer["NextKeyMarker"],
                "UploadIdMarker": answer["NextUploadIdMarker"],
            }

    def abort(self, name: str, upload: str) -> None:
        with suppress(FileNotFoundError):
            self._ask("abort_multipart_upload", name, UploadId=upload)


def _name_of(part: Part, suffix: str) -> str:
    """What a part is called: by its task, which the attempt knows when it sends it."""
    name = f"part-{AttemptId.parse(part.attempt).task.index:05d}{suffix}"
    return f"{part.output}/{name}" if part.output else name


def _status_of(error: BaseException) -> int:
    """The status of the answer that an exception of s3fs is about; 0 if there was none."""
    answer = getattr(error.__cause__ or error, "response", None) or {}
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
