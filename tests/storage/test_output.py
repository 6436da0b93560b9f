"""Output is there whole, or it is not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os

import pytest

from pytxmr.errors import BadInput, PytxmrError
from pytxmr.records.named import OUTPUT_NAME
from pytxmr.storage import output
from pytxmr.storage.output import OutputDirectory, Part


@pytest.fixture
def out(tmp_path):
    """A reserved output directory."""
    directory = OutputDirectory(str(tmp_path / "out"), "me")
    directory.reserve()
    return directory


def write(out, attempt, content, name=""):
    """The file of an attempt, as a `Part`."""
    part = Part(attempt, len(content), hashlib.sha256(content).hexdigest(), name)
    with open(out.attempt_path(part.file), "wb") as file:
        file.write(content)
    return part


def files(out):
    return sorted(os.listdir(out.path))


def tree(out):
    """What every file below it holds."""
    return {
        os.path.relpath(os.path.join(place, name), out.path): open(
            os.path.join(place, name), "rb"
        ).read()
        for place, _, names in os.walk(out.path)
        for name in names
    }


# ---- reserve


def test_the_directory_and_those_above_are_made(tmp_path):
    out = OutputDirectory(str(tmp_path / "a/b/out"), "me")
    out.reserve()
    assert files(out) == ["_temporary"]


def test_a_slash_at_the_end_makes_no_difference(tmp_path):
    out = OutputDirectory(f"{tmp_path}/a/out/", "me")
    out.reserve()
    assert files(out) == ["_temporary"]


@pytest.mark.parametrize("kind", ["directory", "file", "dangling link"])
def test_what_exists_is_refused_and_left_alone(tmp_path, kind):
    path = tmp_path / "out"
    match kind:
        case "directory":
            path.mkdir()
            (path / "mine").touch()
        case "file":
            path.write_text("mine")
        case "dangling link":
            path.symlink_to("nowhere")
    with pytest.raises(BadInput, match=r"out exists already; remove it or name another"):
        OutputDirectory(str(path), "me").reserve()
    assert os.path.lexists(path)
    assert kind != "directory" or os.listdir(path) == ["mine"]


def test_of_two_jobs_with_one_output_the_second_is_refused(out):
    with pytest.raises(BadInput, match="exists already"):
        OutputDirectory(out.path, "another").reserve()


@pytest.mark.parametrize(
    "name", ["file/out", "a\0b", f"new/out{'x' * 300}"], ids=["file", "NUL", "long"]
)
def test_a_directory_that_cannot_be_made_is_refused(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot create .*out|cannot create .*x00"):
        OutputDirectory(f"{tmp_path}/{name}", "me").reserve()
    assert os.listdir(tmp_path) == ["file"]


# ---- commit


def test_winners_become_parts_and_nothing_else_stays(out):
    parts = [write(out, "Reduce000.1", b"zero\n"), write(out, "Reduce001.0", b"")]
    write(out, "Reduce000.0", b"the loser's")
    out.commit(parts, {"job": "Job001", "counters": {"lines": 3}})
    assert files(out) == ["_SUCCESS", "part-00000", "part-00001"]
    with open(os.path.join(out.path, "part-00000"), "rb") as file:
        assert file.read() == b"zero\n"


def test_parts_that_are_compressed_are_named_so_and_go_if_the_job_fails_after_all(out):
    parts = [write(out, "Reduce000.1", b"zero\n"), write(out, "Reduce001.0", b"")]
    for suffix in (".gz", ".bz2", ".xz", ".lz4", ".zst"):
        copy = OutputDirectory(f"{out.path}{suffix}", "me")
        copy.reserve()
        for part, data in zip(parts, (b"zero\n", b""), strict=True):
            write(copy, part.attempt, data)
        copy.commit(parts, {"job": "Job001"}, suffix=suffix)
        assert files(copy) == ["_SUCCESS", f"part-00000{suffix}", f"part-00001{suffix}"]
        assert [part["name"] for part in copy.manifest()["parts"]] == files(copy)[1:]
        copy.discard("Job001")
        assert not os.path.exists(copy.path)


def test_the_manifest_tells_what_was_asked_and_of_each_part_name_size_and_digest(out):
    parts = [write(out, "Reduce000.0", b"zero\n"), write(out, "Reduce001.3", b"one\n")]
    out.commit(parts, {"job": "Job001", "name": "Wörter"})
    with open(os.path.join(out.path, "_SUCCESS"), encoding="utf-8") as file:
        text = file.read()
    assert text.endswith("}\n")
    assert "Wörter" in text
    assert json.loads(text) == {
        "job": "Job001",
        "name": "Wörter",
        "parts": [
            {"name": "part-00000", "bytes": 5, "sha256": hashlib.sha256(b"zero\n").hexdigest()},
            {"name": "part-00001", "bytes": 4, "sha256": hashlib.sha256(b"one\n").hexdigest()},
        ],
    }


def test_a_counter_whose_name_utf8_cannot_say_does_not_spoil_the_commit(out):
    manifest = {"counters": {"bad \udcff": 1}}
    out.commit([write(out, "Reduce000.0", b"")], manifest)
    with open(os.path.join(out.path, "_SUCCESS"), encoding="utf-8") as file:
        assert json.load(file)["counters"] == manifest["counters"]


def test_success_comes_last_when_every_part_has_its_name_on_disk(out, monkeypatch):
    parts = [write(out, f"Reduce00{number}.0", b"x") for number in range(3)]
    done = []

    def noting(name):
        real = getattr(os, name)

        def noted(*args, **kwargs):
            done.append((name, *(os.path.basename(a) for a in args if isinstance(a, str))))
            assert name == "fsync" or not os.path.exists(os.path.join(out.path, "_SUCCESS"))
            return real(*args, **kwargs)

        monkeypatch.setattr(output.os, name, noted)

    for name in ("rename", "fsync"):
        noting(name)
    out.commit(parts, {})
    assert done == [
        ("rename", "Reduce000.0", "part-00000"),
        ("rename", "Reduce001.0", "part-00001"),
        ("rename", "Reduce002.0", "part-00002"),
        ("fsync",),  # the directory
        ("fsync",),  # _SUCCESS
        ("fsync",),  # the directory
    ]


def test_a_success_that_is_there_already_is_not_overwritten(out):
    with open(os.path.join(out.path, "_SUCCESS"), "w") as file:
        file.write("mine")
    with pytest.raises(PytxmrError, match="cannot commit to .*File exists"):
        out.commit([write(out, "Reduce000.0", b"x")], {})
    with open(os.path.join(out.path, "_SUCCESS")) as file:
        assert file.read() == "mine"


@pytest.mark.parametrize("size", [0, 3, 5])
def test_a_part_of_another_size_than_reported_is_not_committed(out, size):
    good = write(out, "Reduce000.0", b"good")
    part = write(out, "Reduce001.0", b"four")
    with pytest.raises(PytxmrError, match=f"Reduce001.0 has 4 bytes, not {size}"):
        out.commit([good, Part(part.attempt, size, part.digest)], {})
    assert "_SUCCESS" not in files(out)


def test_a_part_that_is_gone_is_an_error_that_names_it(out):
    with pytest.raises(PytxmrError, match=r"cannot commit to .*Reduce000\.0"):
        out.commit([Part("Reduce000.0", 1, "")], {})
    assert files(out) == ["_temporary"]


def written_by_name(out):
    return [
        write(out, "Reduce000.1", b"zero\n"),
        write(out, "Reduce000.1", b"wrong\n", "errors"),
        write(out, "Reduce000.1", b"", "late"),
        write(out, "Reduce001.0", b"one\n"),
        write(out, "Reduce001.0", b"", "errors"),
        write(out, "Reduce001.0", b"after\n", "late"),
    ]


def test_the_parts_of_an_output_by_name_stand_in_a_directory_of_that_name(out):
    parts = written_by_name(out)
    write(out, "Reduce000.0", b"the loser's", "errors")
    out.commit(parts, {"job": "Job001"}, suffix=".gz")
    found = tree(out)
    manifest = json.loads(found.pop("_SUCCESS"))
    assert found == {
        "part-00000.gz": b"zero\n",
        "part-00001.gz": b"one\n",
        "errors/part-00000.gz": b"wrong\n",
        "errors/part-00001.gz": b"",
        "late/part-00000.gz": b"",
        "late/part-00001.gz": b"after\n",
    }
    assert [part["name"] for part in manifest["parts"]] == ["part-00000.gz", "part-00001.gz"]
    assert manifest["outputs"].keys() == {"errors", "late"}
    assert manifest["outputs"]["late"][1] == {
        "name": "late/part-00001.gz",
        "bytes": 6,
        "sha256": hashlib.sha256(b"after\n").hexdigest(),
    }
    out.discard("Job001")
    assert not os.path.exists(out.path)


def test_outputs_by_name_that_were_half_committed_go_with_the_rest(out):
    parts = [*written_by_name(out), Part("Reduce002.0", 1, "", "late")]
    with pytest.raises(PytxmrError, match="Reduce002.0@late"):
        out.commit(parts, {})
    assert "late/part-00001" in tree(out)
    out.discard()
    assert not os.path.exists(out.path)


@pytest.mark.parametrize(
    "name", ["part-00000", "_bad", "../up", "a/b", ".a", "", "a\nb", "ä", "a@b"], ids=ascii
)
def test_no_output_may_be_named_so_that_it_is_taken_for_something_else(name):
    assert OUTPUT_NAME.fullmatch(name) is None
    assert OUTPUT_NAME.fullmatch("errors-2.late_ones")


def test_parts_are_numbered_beyond_five_digits(out, monkeypatch):
    monkeypatch.setattr(output.os, "rename", lambda source, target: names.append(target))
    monkeypatch.setattr(output.os.path, "getsize", lambda path: 0)
    names = []
    out.commit((Part("Reduce000.0", 0, "") for _ in range(100_001)), {})
    assert os.path.basename(names[-1]) == "part-100000"


# ---- discard


def test_to_discard_what_was_only_begun_leaves_nothing(out):
    write(out, "Reduce000.0", b"x")
    out.discard()
    assert not os.path.exists(out.path)
    out.discard()


def test_to_discard_what_was_half_committed_leaves_nothing(out):
    parts = [write(out, "Reduce000.0", b"x"), Part("Reduce001.0", 1, "")]
    with pytest.raises(PytxmrError):
        out.commit(parts, {})
    assert "part-00000" in files(out)
    out.discard()
    assert not os.path.exists(out.path)


def test_files_of_others_stay_when_output_is_discarded(out):
    mine = ["part-00000", "part-123456", "_SUCCESS"]
    others = ["part-time.txt", "part-0000", "part-00000.txt", "notes", "part-٠٠٠٠٠"]
    for name in mine + others:
        open(os.path.join(out.path, name), "w").close()
    out.discard()
    assert files(out) == sorted(others)


def test_a_directory_of_others_that_is_named_like_a_part_stays(out):
    os.makedirs(os.path.join(out.path, "part-00000", "below"))
    out.discard()
    assert files(out) == ["part-00000"]


# ---- a commit that is cut short


class Cut(BaseException):
    """The process ends here."""


STEPS = [(os, "rename"), (os, "fsync"), (os, "link"), (output.shutil, "rmtree")]


def cut_at(monkeypatch, step):
    """Let the process end before its ``step``-th change to the disk; return how many there are."""
    made = []

    def counting(real):
        def call(*args, **options):
            made.append(real)
            if len(made) == step:
                raise Cut
            return real(*args, **options)

        return call

    for module, name in STEPS:
        monkeypatch.setattr(module, name, counting(getattr(module, name)))
    return made


def two_written(out):
    return [
        write(out, "Reduce000.0", b"a\t1\n"),
        write(out, "Reduce000.0", b"b\t1\n", "others"),
        write(out, "Reduce001.2", b""),
        write(out, "Reduce001.2", b"", "others"),
    ]


def committed_in_one_go(tmp_path):
    out = OutputDirectory(str(tmp_path / "one go"), "me")
    out.reserve()
    out.commit(two_written(out), {"job": "J"})
    return tree(out)


def test_a_commit_cut_at_any_step_and_made_again_gives_the_same_output(tmp_path):
    wanted = committed_in_one_go(tmp_path)
    step = 0
    while True:
        step += 1
        out = OutputDirectory(str(tmp_path / f"cut {step}"), "me")
        out.reserve()
        parts = two_written(out)
        with pytest.MonkeyPatch.context() as patch:
            made = cut_at(patch, step)
            try:
                out.commit(parts, {"job": "J"})
            except Cut:
                pass
        if "_SUCCESS" in files(out):  # whoever finds it finds all of it
            for name, content in wanted.items():
                assert (tmp_path / f"cut {step}" / name).read_bytes() == content
        if len(made) < step:
            break
        out.commit(parts, {"job": "J"})
        assert tree(out) == wanted
    assert step > 10


def test_the_success_of_another_job_is_not_overwritten(out):
    part = write(out, "Reduce000.0", b"a\t1\n")
    with open(f"{out.path}/_SUCCESS", "wb") as file:
        file.write(b"another's")
    with pytest.raises(PytxmrError, match="File exists"):
        out.commit([part], {"job": "J"})
    assert open(f"{out.path}/_SUCCESS", "rb").read() == b"another's"


@pytest.mark.parametrize("made", ["", "_temporary", "_temporary/me"])
def test_what_was_reserved_by_one_who_died_over_it_is_removed(tmp_path, made):
    (tmp_path / "out" / made).mkdir(parents=True)
    OutputDirectory(str(tmp_path / "out"), "me").discard()
    assert not (tmp_path / "out").exists()


def test_directories_above_that_were_made_for_a_job_go_with_what_it_has_written(tmp_path):
    (tmp_path / "there").mkdir()
    path = f"{tmp_path}/there/a/b/out/"
    out = OutputDirectory(path, "me")
    out.reserve()
    write(out, "Reduce000.0", b"some")
    OutputDirectory(path, "me").discard("Job001")  # as by another life of the jobtracker
    assert [place for place, *_ in os.walk(tmp_path)] == [str(tmp_path), f"{tmp_path}/there"]


def test_of_the_directories_above_those_stay_that_others_use_or_have_made(tmp_path):
    first, second = (OutputDirectory(f"{tmp_path}/a/b/{name}", name) for name in ("one", "two"))
    first.reserve()
    second.reserve()
    first.discard()
    assert os.listdir(tmp_path / "a/b") == ["two"]
    second.discard()
    assert os.listdir(tmp_path / "a/b") == []


def test_directories_above_an_output_that_was_committed_stay(tmp_path):
    out = OutputDirectory(f"{tmp_path}/a/out", "me")
    out.reserve()
    out.commit([write(out, "Reduce000.0", b"some")], {"job": "Job001"})
    assert files(out) == ["_SUCCESS", "part-00000"]
    out.discard("Job001")
    assert os.listdir(tmp_path / "a") == []


def test_what_is_somebody_else_s_by_now_is_left_alone(tmp_path):
    mine, theirs = (OutputDirectory(str(tmp_path / "out"), owner) for owner in ("me", "them"))
    theirs.reserve()
    part = write(theirs, "Reduce000.0", b"theirs")
    mine.discard("Job001")
    theirs.commit([part], {"job": "Job002"})
    mine.discard("Job001")
    assert files(theirs) == ["_SUCCESS", "part-00000"]


def test_what_was_committed_is_removed_whole_if_the_job_was_killed_meanwhile(out):
    out.commit([write(out, "Reduce000.0", b"a")], {"job": "Job001"})
    out.discard("Job001")
    assert not os.path.exists(out.path)


def test_an_attempt_that_outlived_its_job_cannot_write_among_the_files_of_the_next(tmp_path):
    first, second = (OutputDirectory(str(tmp_path / "out"), owner) for owner in ("one", "two"))
    first.reserve()
    first.discard()
    second.reserve()
    with pytest.raises(FileNotFoundError):
        write(first, "Reduce000.0", b"late")
    assert os.path.dirname(second.attempt_path("x")) != os.path.dirname(first.attempt_path("x"))


def test_an_output_that_cannot_be_reserved_whole_is_not_there(tmp_path, monkeypatch):
    mkdir = os.mkdir

    def full(path, *args):
        if path.endswith(("_temporary", "/me")):
            raise OSError(errno.ENOSPC, "No space left on device")
        mkdir(path, *args)

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(BadInput, match="No space left"):
        OutputDirectory(str(tmp_path / "out"), "me").reserve()
    assert list(tmp_path.iterdir()) == []
