"""What every output behind a URL promises: the tests of `Outputs`, for each kind of server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

import pytest

from pytxmr.errors import AttemptFailed, BadInput, PytxmrError
from pytxmr.records.quarantine import Quarantine, UserCode
from pytxmr.records.writers import PartFile
from pytxmr.storage import patience
from pytxmr.storage.output import Output, Part, beside
from pytxmr.storage.places import output_at


class Cut(BaseException):
    """The process is killed."""


LOST = ConnectionResetError("the connection is lost")


class Breaks:
    """Raises when it is called for the ``at``-th time, and so many ``times`` from then on."""

    def __init__(self, at: int, error: BaseException, times: int = 1) -> None:
        self.passed = 0
        self._raising = range(at, at + times)
        self._error = error

    def __call__(self) -> None:
        self.passed += 1
        if self.passed in self._raising:
            raise self._error


class Place(Protocol):
    """A directory that is not there, on a server."""

    url: str
    #: How many requests that change something an attempt makes to send what it has written.
    requests_to_send: int

    def files(self) -> list[str]:
        """What is there, with what is not visible to others."""

    def read(self, name: str) -> bytes: ...
    def put(self, name: str, data: bytes) -> None: ...

    def beside(self, number: int) -> Place:
        """Another one."""

    def break_at(self, patch: pytest.MonkeyPatch, breaks: Callable[[], object]) -> None:
        """Have ``breaks`` called before each request that changes something."""


def write(
    out: Output, attempt: str, content: bytes, compress: str = "none", output: str = ""
) -> Part:
    """What an attempt does."""
    path = out.attempt_path(attempt)
    file = PartFile(beside(path, output) if output else path, compress)
    file.write([content])
    return Part(attempt, file.size_bytes, file.digest, output)


def set_aside(out: Output, attempt: str, tmp_path) -> None:
    code = UserCode(lambda error: "a traceback")
    bad = Quarantine(3, out.bad_path(attempt), str(tmp_path / "note"), "Map001", code)
    bad.begin()
    bad._set_aside("in.txt", 7, "the record", "it is bad", None)
    bad.finish()


def reserved(url: str, owner: str = "me") -> Output:
    out = output_at(url, owner)
    out.reserve()
    return out


class Outputs:
    def test_winners_become_parts_and_nothing_else_stays(self, place):
        out = reserved(place.url)
        write(out, "Reduce000.0", b"the loser's")
        parts = [write(out, "Reduce000.1", b"zero\n"), write(out, "Reduce001.0", b"")]
        assert not [name for name in place.files() if name.startswith("part")]
        out.commit(parts, {"job": "Job001", "counters": {"lines": 3}})
        assert place.files() == ["_SUCCESS", "part-00000", "part-00001"]
        assert (place.read("part-00000"), place.read("part-00001")) == (b"zero\n", b"")
        assert json.loads(place.read("_SUCCESS"))["parts"] == [
            {"name": f"part-{at:05d}", "bytes": len(data), "sha256": digest(data)}
            for at, data in enumerate([b"zero\n", b""])
        ]
        assert out.manifest()["counters"] == {"lines": 3}
        out.discard("Job001")
        assert place.files() == []

    def test_parts_that_are_compressed_are_named_so(self, place):
        out = reserved(place.url)
        part = write(out, "Map001.0", b"zero\n", "gzip")
        out.commit([part], {"job": "Job001"}, suffix=".gz")
        assert place.files() == ["_SUCCESS", "part-00000.gz"]
        assert len(place.read("part-00000.gz")) == part.size_bytes

    def test_the_parts_of_an_output_by_name_are_in_a_directory_of_that_name(self, place):
        out = reserved(place.url)
        parts = [write(out, "Reduce000.0", b"a"), write(out, "Reduce001.0", b"b")]
        for output in ("errors", "rare"):
            parts.append(write(out, "Reduce000.0", output.encode(), output=output))
        write(out, "Reduce001.1", b"a loser", output="rare")
        out.commit(parts, {"job": "Job001"})
        names = ["_SUCCESS", "errors/part-00000", "part-00000", "part-00001", "rare/part-00000"]
        assert place.files() == names
        assert place.read("rare/part-00000") == b"rare"
        assert out.manifest()["outputs"]["errors"] == [
            {"name": "errors/part-00000", "bytes": 6, "sha256": digest(b"errors")}
        ]
        out.discard("Job001")
        assert place.files() == []

    def test_bad_records_of_the_attempts_that_count_are_beside_the_parts(self, place, tmp_path):
        out = reserved(place.url)
        for attempt in ("Map001.0", "Map001.1"):
            set_aside(out, attempt, tmp_path)
        out.commit([write(out, "Reduce000.0", b"a")], {"job": "Job001"}, [("Map001.1", "Map001")])
        assert place.files() == ["_SUCCESS", "_bad/Map001.jsonl", "part-00000"]
        line = place.read("_bad/Map001.jsonl")
        assert json.loads(line)["record"] == "the record"
        assert out.manifest()["bad"] == [{"name": "_bad/Map001.jsonl", "bytes": len(line)}]
        out.discard("Job001")
        assert place.files() == []

    def test_a_directory_in_which_something_is_is_refused_and_left_as_it_is(self, place):
        place.put("mine", b"x")
        with pytest.raises(BadInput, match="exists already; remove it or name another"):
            reserved(place.url)
        assert place.files() == ["mine"]

    def test_of_jobs_that_begin_at_once_one_gets_the_directory(self, place, least=1):
        refused = []

        def begin(number: int) -> Output | None:
            try:
                return reserved(place.url, f"owner{number}")
            except BadInput as error:
                refused.append(error.message)
                return None

        with ThreadPoolExecutor(4) as pool:
            winners = [*filter(None, pool.map(begin, range(4)))]
        assert least <= len(winners) <= 1
        winner = winners[0] if winners else reserved(place.url, "owner9")
        assert all("exists already" in text or "another job" in text for text in refused)
        for number in range(4):
            loser = output_at(place.url, f"owner{number}")
            if loser.attempt_path("x") != winner.attempt_path("x"):
                loser.discard()
        winner.commit([write(winner, "Reduce000.0", b"a")], {"job": "Job001"})
        assert place.files() == ["_SUCCESS", "part-00000"]

    def test_a_commit_cut_at_any_step_and_made_again_gives_the_same_output(self, place, tmp_path):
        wanted = {}
        step = -1
        while True:
            step += 1
            at = place.beside(step)
            out = reserved(at.url)
            parts = [write(out, "Reduce000.0", b"a\t1\n"), write(out, "Reduce001.2", b"")]
            write(out, "Reduce001.0", b"a loser")
            set_aside(out, "Map001.0", tmp_path)
            commit = (parts, {"job": "J"}, [("Map001.0", "Map001")])
            with pytest.MonkeyPatch.context() as patch:
                breaks = Breaks(step, Cut())
                at.break_at(patch, breaks)
                with suppress(Cut):
                    out.commit(*commit)
            names = at.files()
            if "_SUCCESS" in names:  # whoever finds it finds all of it
                assert {"part-00000", "part-00001", "_bad/Map001.jsonl"} <= set(names)
            if step:
                out.commit(*commit)
            found = {name: at.read(name) for name in at.files()}
            wanted = wanted or found
            assert found == wanted, step
            if breaks.passed < step:
                break
        assert step > 5

    def test_the_success_of_another_job_is_not_overwritten(self, place, monkeypatch):
        monkeypatch.setattr(patience, "PAUSES", ())
        out = reserved(place.url)
        part = write(out, "Reduce000.0", b"a\t1\n")
        place.put("_SUCCESS", b"another's")
        with pytest.raises(PytxmrError, match="_SUCCESS|cannot commit"):
            out.commit([part], {"job": "J"})
        assert place.read("_SUCCESS") == b"another's"

    def test_what_is_somebody_else_s_by_now_is_left_alone(self, place):
        mine, theirs = output_at(place.url, "me"), reserved(place.url, "them")
        part = write(theirs, "Reduce000.0", b"theirs")
        mine.discard("Job001")
        theirs.commit([part], {"job": "Job002"})
        mine.discard("Job001")
        assert place.files() == ["_SUCCESS", "part-00000"]

    def test_a_job_that_fails_leaves_nothing(self, place, tmp_path):
        out = reserved(place.url)
        write(out, "Reduce000.0", b"a")
        set_aside(out, "Map001.0", tmp_path)
        out.discard("Job001")
        assert place.files() == []
        out.discard("Job001")

    def test_directories_above_that_were_made_for_a_job_that_fails_go_with_it(self, place):
        reserved(f"{place.url}/kept/one")
        below = output_at(f"{place.url}/made/for/it", "me")
        below.reserve()
        with pytest.raises(BadInput, match="exists already"):
            reserved(below.path)
        write(below, "Reduce000.0", b"a")
        below.discard("Job001")
        reserved(f"{place.url}/made").discard()
        output_at(f"{place.url}/kept/one", "me").discard()
        # Nor are the others, but for those.
        reserved(place.url).discard()

    def test_an_attempt_that_outlived_its_job_cannot_write_there(self, place):
        first = reserved(place.url, "one")
        first.discard()
        with pytest.raises(AttemptFailed, match="the job is over"):
            write(first, "Reduce000.0", b"late")
        assert place.files() == []
        second = reserved(place.url, "two")
        with pytest.raises(AttemptFailed, match="the job is over"):
            write(first, "Reduce000.0", b"late")
        second.commit([write(second, "Reduce000.0", b"a")], {"job": "Job002"})
        assert place.files() == ["_SUCCESS", "part-00000"]

    def test_an_attempt_whose_job_ends_while_it_sends_leaves_nothing(self, place):
        for step in range(1, place.requests_to_send + 1):
            out = reserved(place.url)
            passed = 0

            def pass_by(step: int = step, out: Output = out) -> None:
                nonlocal passed
                passed += 1
                if passed == step:
                    out.discard()

            with pytest.MonkeyPatch.context() as patch:
                place.break_at(patch, pass_by)
                with pytest.raises(AttemptFailed):
                    write(out, "Reduce000.0", b"late")
            assert place.files() == []
            reserved(place.url, "another").discard()

    def test_an_attempt_that_is_cut_off_while_it_sends_fails_and_may_be_made_again(self, place):
        out = reserved(place.url)
        before = place.files()
        for step in range(1, place.requests_to_send + 1):
            with pytest.MonkeyPatch.context() as patch:
                place.break_at(patch, Breaks(step, LOST))
                with pytest.raises(AttemptFailed, match="the connection is lost"):
                    write(out, f"Reduce000.{step}", b"x" * 999)
            assert place.files() == before
        out.commit([write(out, "Reduce000.9", b"a")], {"job": "Job001"})
        assert place.files() == ["_SUCCESS", "part-00000"]

    def test_a_server_that_is_away_for_a_moment_is_waited_for(self, place, monkeypatch):
        monkeypatch.setattr(patience, "PAUSES", (0.0, 0.0))
        out = reserved(place.url)
        part = write(out, "Reduce000.0", b"a")
        with pytest.MonkeyPatch.context() as patch:
            place.break_at(patch, Breaks(1, LOST, times=2))
            out.commit([part], {"job": "Job001"})
            assert place.files() == ["_SUCCESS", "part-00000"]

    def test_a_server_that_stays_away_is_told_of(self, place, monkeypatch):
        monkeypatch.setattr(patience, "PAUSES", (0.0, 0.0))
        out = output_at(place.url, "me")
        with pytest.MonkeyPatch.context() as patch:
            place.break_at(patch, Breaks(1, LOST, times=99))
            with pytest.raises(BadInput, match="cannot write to .*: the connection is lost"):
                out.reserve()
        out.reserve()
        part = write(out, "Reduce000.0", b"a")
        with pytest.MonkeyPatch.context() as patch:
            place.break_at(patch, Breaks(1, LOST, times=99))
            with pytest.raises(PytxmrError, match="cannot commit to .*: the connection is lost"):
                out.commit([part], {"job": "Job001"})
            out.discard("Job001")
        out.commit([part], {"job": "Job001"})
        assert place.files() == ["_SUCCESS", "part-00000"]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
