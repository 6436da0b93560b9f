"""What travels with a job: how it is named, and that an archive stays within its directory."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from pytxmr.errors import BadJob, PeerBroke
from pytxmr.model import SideFile
from pytxmr.storage import sidefiles
from pytxmr.storage.sidefiles import lay_down, read_side_files

LINKS = {"in": ("link", "there/a.txt")}


def tar(members: dict[str, object], mode: str = "w:gz") -> bytes:
    """A member is its content, ``("link", target)``, ``("hard", target)`` or ``("type", type)``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, what in members.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if name.endswith(".sh") else 0o644
            content = b""
            match what:
                case bytes():
                    content = what
                    info.size = len(content)
                case ("link", target):
                    info.type, info.linkname = tarfile.SYMTYPE, target
                case ("hard", target):
                    info.type, info.linkname = tarfile.LNKTYPE, target
                case ("type", kind):
                    info.type = kind
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(members: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, what in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o100755 if name.endswith(".sh") else 0o100644) << 16
            if isinstance(what, tuple):
                info.external_attr = 0o120777 << 16
                what = what[1].encode()
            archive.writestr(info, what)
    return buffer.getvalue()


def unpacked(tmp_path: Path, content: bytes) -> Path:
    lay_down([SideFile("a.zip", content, is_archive=True)], os.fspath(tmp_path / "side"))
    return tmp_path / "side" / "a.zip"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_an_archive_is_unpacked_for_reading_only(tmp_path: Path, mode: str) -> None:
    members = {"there/a.txt": b"a" * 3_000_000, "run.sh": b"#!", "./b": b"", "in": LINKS["in"]}
    content = zipped(members) if mode == "zip" else tar(members, mode)
    root = unpacked(tmp_path, content)
    assert (root / "there" / "a.txt").read_bytes() == (root / "in").read_bytes() == b"a" * 3_000_000
    modes = {name: (root / name).stat().st_mode & 0o777 for name in ("run.sh", "b")}
    assert modes == {"run.sh": 0o555, "b": 0o444}


def test_a_file_is_laid_down_for_reading_only(tmp_path: Path) -> None:
    lay_down([SideFile("words", b"a b")], os.fspath(tmp_path / "side"))
    path = tmp_path / "side" / "words"
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"a b", 0o444)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"../x": b""}, "outside of itself: '../x'"),
        ({"a/../../x": b""}, "outside of itself"),
        ({"/etc/x": b""}, "outside of itself"),
        ({"a": ("link", "/etc/passwd")}, "a link out of itself: 'a'"),
        ({"a": ("link", "../../x")}, "a link out of itself"),
        ({"a": ("link", ".."), "b": b""}, "a link out of itself"),
        ({"here": ("link", "."), "out": ("link", "here/..")}, "a link out of itself: 'out'"),
        ({"there": ("link", "/etc"), "there/x": b""}, "two members"),
        ({"there": b"", "there/x": b""}, "two members"),
        ({"d/x": b"", "d": b""}, "two members"),
    ],
)
@pytest.mark.parametrize("pack", [tar, zipped])
def test_nothing_of_an_archive_lies_or_leads_outside(
    tmp_path: Path, pack, members: dict[str, object], said: str
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(BadJob, match=said):
        unpacked(inner, pack(members))
    assert list(tmp_path.iterdir()) == [inner]
    assert [path.name for path in inner.iterdir()] == ["side"]


def test_the_interpreter_of_a_packed_environment_is_left_out(tmp_path: Path) -> None:
    members = {
        "bin/python": ("link", "python3.11"),
        "bin/python3.11": ("link", "/usr/bin/python3.11"),
        "bin/tool": b"#!",
        "lib64": ("link", "lib"),
        "lib/a.py": b"",
    }
    lay_down([SideFile("env", tar(members), True)], str(tmp_path / "side"))
    found = sorted(path.name for path in (tmp_path / "side" / "env").rglob("*"))
    assert found == ["a.py", "bin", "lib", "lib64", "tool"]
    for name in ("bin/python-config", "sbin/python", "python", "bin/python/x"):
        with pytest.raises(BadJob, match="a link out of itself"):
            lay_down(
                [SideFile("env", tar({name: ("link", "/usr/bin/python3.11")}), True)],
                str(tmp_path / name.replace("/", "-")),
            )


def test_a_hard_link_is_a_copy_and_leads_nowhere_else(tmp_path: Path) -> None:
    root = unpacked(tmp_path, tar({"a": b"abc", "b": ("hard", "a")}))
    assert (root / "b").read_bytes() == b"abc"
    (tmp_path / "more").mkdir()
    with pytest.raises(BadJob, match="damaged"):
        unpacked(tmp_path / "more", tar({"b": ("hard", "../../a")}))


def test_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadJob, match="a device in it: 'pipe'"):
        unpacked(tmp_path, tar({"pipe": ("type", tarfile.FIFOTYPE)}))


@pytest.mark.parametrize("pack", [tar, zipped])
def test_an_archive_that_is_damaged_is_refused_wherever_it_is(tmp_path: Path, pack) -> None:
    whole = pack({"a": os.urandom(50), "b": b"x" * 50})
    for number in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[number] ^= 0xFF
        for content in (bytes(damaged), whole[:number]):
            place = tmp_path / f"{number}-{len(content)}"
            place.mkdir()
            try:  # some bytes matter to nobody
                unpacked(place, content)
            except BadJob:
                pass


def test_what_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidefiles, "MOST_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(BadJob, match="unpacks to more than"):
        unpacked(tmp_path, zipped({"a": b"0" * (1 << 20), "b": b"0"}))
    monkeypatch.setattr(sidefiles, "MOST_MEMBERS", 3)
    (tmp_path / "more").mkdir()
    with pytest.raises(BadJob, match="more than 3 members"):
        unpacked(tmp_path / "more", zipped(dict.fromkeys("abcd", b"")))


def test_a_file_is_named_as_it_is_or_as_one_says(tmp_path: Path) -> None:
    for name in ("words.txt", "odd#name", "all.zip"):
        (tmp_path / name).write_text(name)
    paths = [f"{tmp_path}/words.txt", f"{tmp_path}/words.txt#stop", f"{tmp_path}/odd#name"]
    found = [file for _, file in read_side_files(paths, [f"{tmp_path}/all.zip#all"])]
    assert {file.name: file.content for file in found} == {
        "words.txt": b"words.txt",
        "stop": b"words.txt",
        "odd#name": b"odd#name",
        "all": b"all.zip",
    }
    assert [file.is_archive for file in found] == [False, False, False, True]


@pytest.mark.parametrize(
    ("files", "archives", "said"),
    [
        (["absent"], [], "cannot read --file absent: No such file"),
        ([], ["absent.zip#a"], "cannot read --archive absent.zip: No such file"),
        (["words#../x"], [], "'../x' is not a name for a file; say --file PATH#NAME"),
        (["words#"], [], "'' is not a name"),
        (["words#.."], [], "is not a name"),
        (["words"], ["words"], "words has the name words already"),
        (["words#a", "other#a"], [], "words has the name a already"),
    ],
)
def test_files_that_cannot_be_sent_along_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: list[str],
    archives: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("words", "other"):
        (tmp_path / name).write_text(name)
    with pytest.raises(BadJob) as caught:
        read_side_files(files, archives)
    assert said in caught.value.message


def test_files_that_are_too_large_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidefiles, "MOST_BYTES", 1 << 20)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(1 << 19))
    files = [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert len(read_side_files(files, [])) == 2
    with open(tmp_path / "b", "ab") as file:
        file.write(b"x")
    with pytest.raises(BadJob, match=r"/b: the files that travel with a job may have 1 MiB"):
        read_side_files(files, [])


def test_a_file_that_was_changed_on_the_way_is_refused() -> None:
    file = SideFile("words", b"a b", is_archive=True)
    assert SideFile.from_plain(file.to_plain()) == file
    name, content, is_archive, digest = file.to_plain()
    for plain in (
        [name, b"a c", is_archive, digest],
        [name, content, is_archive],
        ["../x", content, is_archive, digest],
        [name, "a b", is_archive, digest],
        None,
    ):
        with pytest.raises(PeerBroke):
            SideFile.from_plain(plain)
