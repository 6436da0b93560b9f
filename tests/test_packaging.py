"""What is built carries what it should, and what is installed is known to twistd.

The distributions are built from a copy of the source tree that this file lies in, so that nothing
is left behind in it; the other tests here look at the pytxmr that is installed.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

SOURCE_TREE = Path(__file__).resolve().parent.parent
NOT_SOURCE = shutil.ignore_patterns(
    ".*_cache", ".git", ".hypothesis", ".venv", "__pycache__", "*.egg-info", "build", "dist"
)


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command to its end, and answer what it wrote, standard error included."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def files_below(directory: Path, pattern: str = "*") -> set[str]:
    """The files of a source directory that anyone wrote, named from the directory's parent."""
    return {
        path.relative_to(directory.parent).as_posix()
        for path in directory.rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts and path.name != "dropin.cache"
    }


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    pytest.importorskip("setuptools", minversion="77")
    directory = tmp_path_factory.mktemp("sdist")
    tree = directory / "tree"
    shutil.copytree(SOURCE_TREE, tree, ignore=NOT_SOURCE)
    run(sys.executable, "setup.py", "-q", "sdist", "-d", directory, cwd=tree)
    (archive,) = directory.glob("pytxmr-*.tar.gz")
    with tarfile.open(archive) as unpacking:
        unpacking.extractall(directory, filter="data")
    return directory / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from the source distribution, which shows that that one is complete."""
    directory = tmp_path_factory.mktemp("wheel")
    tree = directory / "tree"
    shutil.copytree(sdist, tree)
    run(sys.executable, "setup.py", "-q", "bdist_wheel", "-d", directory, cwd=tree)
    (archive,) = directory.glob("pytxmr-*.whl")
    return zipfile.ZipFile(archive)


@pytest.fixture(scope="module")
def wheel_names(wheel: zipfile.ZipFile) -> set[str]:
    return set(wheel.namelist())


def test_sdist_carries_examples_with_their_data_tests_benchmarks_and_docs(sdist: Path) -> None:
    expected = {"LICENSE", "Makefile", "README.md", "pyproject.toml", "setup.py", ".ci/run"}
    for name in ("benchmarks", "docs", "examples", "pytxmr", "tests", "twisted"):
        expected |= files_below(SOURCE_TREE / name)
    carried = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    assert {name for name in expected if not name.endswith((".pyc", ".pyo", ".so"))} <= carried
    assert "examples/data/warandpeace.txt" in carried


def test_wheel_carries_every_module_of_every_package(wheel_names: set[str]) -> None:
    assert files_below(SOURCE_TREE / "pytxmr", "*.py") <= wheel_names
    assert "pytxmr/py.typed" in wheel_names


can_compile = pytest.mark.skipif(
    os.environ.get("CI") != "true"
    and not (shutil.which("cc") and Path(sysconfig.get_path("include"), "Python.h").exists()),
    reason="there is no C compiler here, or no headers of Python",
)


@can_compile
def test_wheel_has_what_was_compiled(wheel_names: set[str]) -> None:
    assert f"pytxmr/records/_gather{sysconfig.get_config_var('EXT_SUFFIX')}" in wheel_names
    assert "pytxmr/records/_gather.pyi" in wheel_names


def test_wheel_is_built_without_a_c_compiler(
    sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(sdist, tmp_path / "tree")
    monkeypatch.setenv("CC", "no-such-compiler")
    said = run(sys.executable, "setup.py", "bdist_wheel", "-d", tmp_path, cwd=tmp_path / "tree")
    assert "no-such-compiler" in said
    (archive,) = tmp_path.glob("pytxmr-*.whl")
    names = set(zipfile.ZipFile(archive).namelist())
    assert files_below(SOURCE_TREE / "pytxmr", "*.py") <= names
    assert not any(name.endswith(".so") for name in names)


def test_wheel_adds_its_plugins_to_twisted_and_nothing_else(wheel_names: set[str]) -> None:
    below_twisted = {name for name in wheel_names if name.startswith("twisted/")}
    assert below_twisted == {"twisted/plugins/pytxmr_plugins.py"}


def test_wheel_carries_the_examples_but_not_the_novel(wheel_names: set[str]) -> None:
    examples = files_below(SOURCE_TREE / "examples", "*.py")
    assert "examples/wordcount.py" in examples
    assert {f"pytxmr/{name}" for name in examples} <= wheel_names
    data = files_below(SOURCE_TREE / "examples" / "data") - {"data/warandpeace.txt"}
    assert {f"pytxmr/examples/{name}" for name in data} <= wheel_names
    assert not any(name.endswith("warandpeace.txt") for name in wheel_names)


def test_wheel_has_nothing_at_its_top_but_pytxmr_and_the_plugins(
    wheel_names: set[str],
) -> None:
    top = {PurePosixPath(name).parts[0] for name in wheel_names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"pytxmr", "twisted"}


def test_wheel_states_its_command_its_python_and_what_it_needs(wheel: zipfile.ZipFile) -> None:
    (dist_info,) = (entry for entry in zipfile.Path(wheel).iterdir() if ".dist-info" in entry.name)
    assert "pytxmr = pytxmr.cli:command" in (dist_info / "entry_points.txt").read_text()
    metadata = (dist_info / "METADATA").read_text(encoding="utf-8")
    assert "Requires-Python: >=3.11\n" in metadata
    needed = {
        re.split(r"[<>=~! ;]", line.removeprefix("Requires-Dist: "))[0].lower()
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    }
    assert needed == {"twisted", "msgpack", "xxhash"}


def installed_version() -> str | None:
    try:
        return importlib.metadata.version("pytxmr")
    except importlib.metadata.PackageNotFoundError:
        return None


# `make test` sets the variable, so that there nothing is passed over.
under_make_test = "PYTXMR_TEST_INSTALLED" in os.environ
needs_installation = pytest.mark.skipif(
    not under_make_test and installed_version() is None, reason="pytxmr is not installed"
)


@pytest.mark.skipif(not under_make_test, reason="only `make test` promises it")
def test_make_test_tests_what_is_installed_and_not_the_checkout() -> None:
    import pytxmr

    location = Path(pytxmr.__file__).resolve()
    assert not location.is_relative_to(SOURCE_TREE / "pytxmr")
    assert location.is_relative_to(Path(sysconfig.get_path("platlib")).resolve())


@needs_installation
def test_package_and_metadata_agree_on_the_version() -> None:
    import pytxmr

    assert pytxmr.__version__ == installed_version()


def twistd(*arguments: str, cwd: Path) -> str:
    """What twistd answers in a directory from which it cannot see the checkout's plugins."""
    return run(Path(sysconfig.get_path("scripts")) / "twistd", *arguments, cwd=cwd)


@needs_installation
def test_twistd_lists_both_daemons(tmp_path: Path) -> None:
    listed = twistd("--help", cwd=tmp_path)
    assert re.search(r"^\s+jobtracker\s+Takes MapReduce jobs", listed, re.MULTILINE)
    assert re.search(r"^\s+tasktracker\s+Runs the map and reduce tasks", listed, re.MULTILINE)


@needs_installation
@pytest.mark.parametrize("daemon", ["jobtracker", "tasktracker"])
def test_twistd_knows_the_options_of_each_daemon(daemon: str, tmp_path: Path) -> None:
    options = twistd(daemon, "--help", cwd=tmp_path)
    assert f" {daemon} --secret-file FILE" in options
    assert "--secret-file" in options


@needs_installation
def test_plugin_file_loads_nothing_of_pytxmr(tmp_path: Path) -> None:
    script = (
        "import sys, twisted.plugins.pytxmr_plugins as plugins\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'pytxmr'])\n"
        "print('twisted.internet.reactor' in sys.modules)"
    )
    assert run(sys.executable, "-c", script, cwd=tmp_path).split("\n")[:2] == ["[]", "False"]
