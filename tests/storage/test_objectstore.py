"""What is promised of outputs, in a store of objects that is shown as a filesystem."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from itertools import count
from threading import Barrier, Event, current_thread, main_thread
from typing import Any

import pytest
from outputs import Outputs, reserved, write
from servers import need

from pytxmr.errors import BadInput, PytxmrError
from pytxmr.records.remote import open_by

need("fsspec")
ObjectStore = import_module("objectstore").ObjectStore
_numbers = count()


class ObjectPlace:
    requests_to_send = 1

    def __init__(self, store: Any, name: str) -> None:
        self.store = store
        self._path = f"/bucket/{name}/"
        self.url = f"s3a://bucket/{name}"

    def beside(self, number: int) -> ObjectPlace:
        return ObjectPlace(self.store, f"{self.url.rpartition('/')[2]}-{number}")

    def files(self) -> list[str]:
        found = [name for name in self.store.objects if name.startswith(self._path)]
        return sorted(name.removeprefix(self._path) for name in found if not name.endswith("/"))

    def read(self, name: str) -> bytes:
        return self.store.objects[f"{self._path}{name}"]

    def put(self, name: str, data: bytes) -> None:
        self.store.objects[f"{self._path}{name}"] = data

    def break_at(self, patch, breaks) -> None:
        patch.setattr(self.store, "breaks", breaks)


@pytest.fixture
def place():
    store = ObjectStore()
    open_by(["s3a"], lambda url: (store, store._strip_protocol(url)))
    yield ObjectPlace(store, f"out{next(_numbers)}")
    open_by(["s3a"], None)


class TestOutputsInAStoreOfObjects(Outputs):
    def test_of_jobs_that_begin_at_once_at_most_one_gets_it_if_nothing_is_made_exclusively(
        self, place, monkeypatch
    ):
        """As by S3 servers that do not heed a condition: neither may get it, but never both."""
        monkeypatch.setattr(place.store, "creates_new", False)
        super().test_of_jobs_that_begin_at_once_one_gets_the_directory(place, least=0)

    def test_a_job_that_has_begun_though_its_request_seemed_to_fail_has_the_directory(self, place):
        put = place.store._put

        def lost(name: str, data: bytes, new: bool = False) -> None:
            put(name, data, new)
            if new:
                raise ConnectionResetError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place.store, "_put", lost)
            out = reserved(place.url)
        out.commit([write(out, "Reduce000.0", b"a")], {"job": "Job001"})
        assert place.files() == ["_SUCCESS", "part-00000"]

    def test_an_attempt_whose_job_ends_while_it_sends_leaves_nothing(self, place):
        super().test_an_attempt_whose_job_ends_while_it_sends_leaves_nothing(place)
        assert not place.store.objects


def test_a_job_that_begins_while_another_runs_and_ends_is_refused(place, monkeypatch):
    """It has seen that nothing is there, and makes the directory when all is done."""
    make = place.store.makedirs

    def makedirs(path, exist_ok=False):
        if not exist_ok:
            monkeypatch.undo()
            other = reserved(place.url, "other")
            other.commit([write(other, "Reduce000.0", b"a")], {"job": "Job001"})
        make(path)

    monkeypatch.setattr(place.store, "makedirs", makedirs)
    with pytest.raises(BadInput, match="exists already"):
        reserved(place.url, "late")
    assert place.files() == ["_SUCCESS", "part-00000"]


def test_of_jobs_that_have_looked_at_once_one_gets_the_directory(place, monkeypatch):
    """The second would list while the first does, so that both were refused."""
    make = place.store.makedirs
    both_looked, first_made, second_made, first_ended = Barrier(2), Event(), Event(), Event()

    def makedirs(path: str, exist_ok: bool = False) -> None:
        name = path.rpartition("/")[2]
        if name == place.url.rpartition("/")[2]:
            both_looked.wait(60)
        make(path)
        if name == "_temporary":
            if current_thread() is not main_thread():
                first_made.wait(60)
        elif name == "first":
            first_made.set()
            second_made.wait(60)
        elif name == "second":
            second_made.set()
            first_ended.wait(60)

    def second() -> None:
        try:
            with pytest.raises(BadInput, match="exists already"):
                reserved(place.url, "second")
        finally:
            second_made.set()

    monkeypatch.setattr(place.store, "makedirs", makedirs)
    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(second)
        try:
            out = reserved(place.url, "first")
        finally:
            first_ended.set()
        refused.result()
    out.commit([write(out, "Reduce000.0", b"a")], {"job": "Job001"})
    assert place.files() == ["_SUCCESS", "part-00000"]


def test_what_somebody_else_has_put_in_the_place_of_a_part_is_left_alone(place):
    out = reserved(place.url)
    part = write(out, "Reduce000.0", b"ours")
    place.put("part-00000", b"mine")
    for _ in range(2):
        with pytest.raises(PytxmrError, match="part-00000 is there already"):
            out.commit([part], {"job": "Job001"})
    assert place.read("part-00000") == b"mine"


def test_parts_are_copied_some_at_a_time(place):
    out = reserved(place.url)
    parts = [write(out, f"Reduce00{number}.0", b"a") for number in range(4)]
    together = Barrier(4)
    with pytest.MonkeyPatch.context() as patch:
        copy = place.store.mv

        def mv(path1: str, path2: str) -> None:
            if "/part-" in path2:
                together.wait(timeout=60)
            copy(path1, path2)

        patch.setattr(place.store, "mv", mv)
        out.commit(parts, {"job": "Job001"})
    assert place.files() == ["_SUCCESS", *(f"part-0000{number}" for number in range(4))]
