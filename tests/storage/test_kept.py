"""Kept results are found whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from pytxmr.errors import BadInput
from pytxmr.storage.kept import UNUSED_SECONDS, KeptResults

KEY = "3f" + "9c" * 23
ANSWER = {"counters": {"lines": 1}, "user_counters": {"a": 1, "\udcff": 4}}


@pytest.fixture
def kept(tmp_path: Path) -> KeptResults:
    results = KeptResults(os.fspath(tmp_path / "kept"))
    results.make()
    return results


def files(tmp_path: Path, name: str, *contents: bytes) -> list[str]:
    paths = [tmp_path / f"{name}{number}" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return list(map(os.fspath, paths))


def places(tmp_path: Path, name: str = "found") -> list[str]:
    return [os.fspath(tmp_path / f"{name}{number}") for number in range(2)]


@pytest.mark.parametrize("share", [True, False])
def test_what_was_kept_is_found_with_its_files(
    kept: KeptResults, tmp_path: Path, share: bool
) -> None:
    written = files(tmp_path, "spill", b"some blocks", b"")
    kept.keep(KEY, written, ANSWER, share)
    wanted = places(tmp_path)
    Path(wanted[0]).write_bytes(b"something of an earlier try")
    assert kept.find(KEY, wanted, share) == ANSWER
    assert [Path(path).read_bytes() for path in wanted] == [b"some blocks", b""]
    assert os.path.samefile(written[0], wanted[0]) == share
    assert kept.find(KEY[::-1], places(tmp_path, "other"), share) is None


def test_a_part_that_is_found_is_fsynced_as_one_that_is_written(
    kept: KeptResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.keep(KEY, files(tmp_path, "part", b"a"), ANSWER, share=False)
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    wanted = places(tmp_path)[:1]
    assert kept.find(KEY, wanted, share=False) == ANSWER
    assert synced == wanted


def test_what_cannot_be_read_at_present_stays(
    kept: KeptResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept.keep(KEY, files(tmp_path, "part", b"a"), ANSWER, share=False)
    wanted = places(tmp_path)[:1]
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", no_room)
        assert kept.find(KEY, wanted, share=False) is None
    assert kept.find(KEY, wanted, share=False) == ANSWER


def test_a_part_that_somebody_alters_later_is_not_what_is_kept(
    kept: KeptResults, tmp_path: Path
) -> None:
    written = files(tmp_path, "part", b"a\t1\n")
    kept.keep(KEY, written, ANSWER, share=False)
    Path(written[0]).write_bytes(b"altered")
    wanted = places(tmp_path)[:1]
    assert kept.find(KEY, wanted, share=False) == ANSWER
    Path(wanted[0]).write_bytes(b"altered as well")
    assert kept.find(KEY, wanted, share=False) == ANSWER
    assert Path(wanted[0]).read_bytes() == b"a\t1\n"


def test_whatever_is_damaged_is_as_if_it_had_never_been_there(
    kept: KeptResults, tmp_path: Path
) -> None:
    written = files(tmp_path, "spill", b"blocks", b"index")
    entry = Path(kept.directory, KEY[:2], KEY)
    kept.keep(KEY, written, ANSWER, share=False)
    whole = tmp_path / "whole"
    shutil.copytree(entry, whole)
    damages = [(path.name, at) for path in entry.iterdir() for at in range(path.stat().st_size)]
    assert len(damages) > 50
    for name, at in damages:
        shutil.copytree(whole, entry, dirs_exist_ok=True)
        data = bytearray((entry / name).read_bytes())
        data[at] ^= 1
        (entry / name).write_bytes(data)
        assert kept.find(KEY, places(tmp_path), share=False) is None, (name, at)
        assert not entry.exists()
        assert not any(map(os.path.exists, places(tmp_path)))
    for name in ("answer", "result0", "result1"):
        for change in (os.unlink, lambda path: os.truncate(path, 3)):
            shutil.copytree(whole, entry)
            change(entry / name)
            assert kept.find(KEY, places(tmp_path), share=False) is None
            assert not any(map(os.path.exists, [entry, *places(tmp_path)]))
    kept.keep(KEY, written, ANSWER, share=False)
    assert kept.find(KEY, places(tmp_path), share=False) == ANSWER


def test_whoever_keeps_the_same_first_is_the_one(kept: KeptResults, tmp_path: Path) -> None:
    written = files(tmp_path, "spill", b"x" * 100_000, b"index")
    both = threading.Barrier(2)

    def keep() -> None:
        both.wait()
        kept.keep(KEY, written, ANSWER, share=False)

    threads = [threading.Thread(target=keep) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept.find(KEY, places(tmp_path), share=False) == ANSWER
    assert os.listdir(os.path.join(kept.directory, KEY[:2])) == [KEY]


def test_one_whose_writer_was_killed_is_not_found_and_goes_in_time(
    kept: KeptResults, tmp_path: Path
) -> None:
    left = Path(kept.directory, KEY[:2], ".new-abc")
    left.mkdir(parents=True)
    (left / "result0").write_bytes(b"half of")
    now = left.stat().st_mtime
    assert kept.find(KEY, places(tmp_path), share=False) is None
    kept.forget_unused(now + 3600)
    assert left.exists()
    kept.forget_unused(now + 90_000)
    assert not left.exists()


def test_what_is_used_stays_and_what_is_not_goes_after_a_month(
    kept: KeptResults, tmp_path: Path
) -> None:
    written = files(tmp_path, "part", b"a")
    other = KEY[::-1]
    for key in (KEY, other):
        kept.keep(key, written, ANSWER, share=False)
        answer = os.path.join(kept.directory, key[:2], key, "answer")
        os.utime(answer, (0, os.stat(answer).st_mtime - UNUSED_SECONDS - 1))
    (Path(kept.directory) / "notes").write_text("somebody's own")
    wanted = places(tmp_path)[:1]
    assert kept.find(KEY, wanted, share=False) == ANSWER
    kept.forget_unused()
    assert kept.find(KEY, wanted, share=False) == ANSWER
    assert kept.find(other, wanted, share=False) is None
    assert sorted(os.listdir(kept.directory)) == [KEY[:2], "notes"]


def test_nothing_is_kept_where_it_cannot_be_written(kept: KeptResults, tmp_path: Path) -> None:
    written = files(tmp_path, "part", b"a")
    with pytest.raises(OSError):
        kept.keep(KEY, [*written, os.fspath(tmp_path / "missing")], ANSWER, share=False)
    assert os.listdir(os.path.join(kept.directory, KEY[:2])) == []


def test_the_directory_is_for_its_owner_alone_and_a_file_in_its_place_is_refused(
    tmp_path: Path,
) -> None:
    results = KeptResults(os.fspath(tmp_path / "deep" / "kept"))
    results.make()
    results.make()
    assert os.stat(results.directory).st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot make .*/file/kept: Not a directory"):
        KeptResults(os.fspath(tmp_path / "file" / "kept")).make()
