"""Input by WebHDFS, and output by it."""

from __future__ import annotations

import os
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from outputs import Outputs
from remoteinputs import Inputs
from servers import need
from webhdfs import serving_hdfs

need("fsspec", "requests")
_numbers = count()


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory):
    with serving_hdfs(tmp_path_factory.mktemp("hdfs")) as served:
        yield served


class HdfsPlace:
    requests_to_send = 4

    def __init__(self, served, name: str) -> None:
        self._served = served
        self._name = name
        self._directory: Path = served.directory / name
        self.url = f"{served.url}/{name}"

    def beside(self, number: int) -> HdfsPlace:
        return HdfsPlace(self._served, f"{self._name}-{number}")

    def files(self) -> list[str]:
        return sorted(
            os.fspath(path.relative_to(self._directory))
            for path in self._directory.rglob("*")
            if not path.is_dir()
        )

    def read(self, name: str) -> bytes:
        return (self._directory / name).read_bytes()

    def put(self, name: str, data: bytes) -> None:
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def count(self, patch):
        self._served.asked.clear()
        return lambda: Counter(self._served.asked)

    def break_at(self, patch, breaks) -> None:
        import requests

        real = requests.Session.request

        def request(session, method, url, **options):
            if method.upper() != "GET":
                breaks()
            return real(session, method, url, **options)

        patch.setattr(requests.Session, "request", request)


@pytest.fixture
def place(hdfs):
    return HdfsPlace(hdfs, f"out{next(_numbers)}")


class TestInputsByWebHdfs(Inputs):
    pass


class TestOutputsByWebHdfs(Outputs):
    def test_of_jobs_that_begin_at_once_one_gets_the_directory(self, place):
        """To make a directory that is there is no error: neither may get it, but never both."""
        super().test_of_jobs_that_begin_at_once_one_gets_the_directory(place, least=0)

    def test_nothing_is_left_of_a_job_that_fails_not_even_a_directory(self, place, hdfs):
        super().test_a_job_that_fails_leaves_nothing(place, hdfs.directory)
        assert not (hdfs.directory / place.url.rpartition("/")[2]).exists()
