"""A WebHDFS server on loopback, over a directory: as much of Hadoop's as fsspec asks for.

What is written goes by way of a redirect, as to a data node. Like Hadoop's, it answers 200 and
``false`` to a rename onto what is there, and to make a directory that is there is no error.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_PREFIX = "/webhdfs/v1"


class WebHdfs:
    """``url``: its root; ``asked`` counts what is asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = ""
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: else each answer waits 40 ms

    def __init__(self, *args, served: WebHdfs) -> None:
        self.served = served
        super().__init__(*args)

    def log_message(self, *args) -> None:
        pass

    def _answer(self, status: int, data: bytes | dict = b"", **headers: str) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _do(self) -> None:
        asked = urlsplit(self.path)
        options = {name: values[0] for name, values in parse_qs(asked.query).items()}
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._path = self._of(unquote(asked.path.removeprefix(_PREFIX)))
        operation = options["op"].upper()
        at_data_node = "node" in options
        with self.served.lock:
            self.served.asked[operation] += not at_data_node
            try:
                if operation in ("CREATE", "APPEND") and not at_data_node:
                    self._answer(307, Location=f"http://{self.headers['Host']}{self.path}&node=1")
                else:
                    getattr(self, operation)(options, content)
            except FileNotFoundError as error:
                told = {"exception": "FileNotFoundException", "message": str(error)}
                self._answer(404, {"RemoteException": told})
            except OSError as error:
                told = {"exception": "IOException", "message": str(error)}
                self._answer(403, {"RemoteException": told})

    do_GET = do_PUT = do_POST = do_DELETE = _do

    def _of(self, path: str) -> Path:
        return self.served.directory / path.strip("/")

    @staticmethod
    def _status(path: Path, suffix: str = "") -> dict[str, object]:
        status = path.stat()
        kind = "DIRECTORY" if path.is_dir() else "FILE"
        length = 0 if path.is_dir() else status.st_size
        return {"pathSuffix": suffix, "type": kind, "length": length, "modificationTime": 0}

    def GETFILESTATUS(self, options, content) -> None:
        self._answer(200, {"FileStatus": self._status(self._path)})

    def LISTSTATUS(self, options, content) -> None:
        if self._path.is_dir():
            found = [self._status(path, path.name) for path in sorted(self._path.iterdir())]
        else:
            found = [self._status(self._path)]
        self._answer(200, {"FileStatuses": {"FileStatus": found}})

    def OPEN(self, options, content) -> None:
        start, size = int(options.get("offset", 0)), int(options.get("length", -1))
        with open(self._path, "rb") as file:
            file.seek(start)
            self._answer(200, file.read(size))

    def MKDIRS(self, options, content) -> None:
        os.makedirs(self._path, exist_ok=True)
        self._answer(200, {"boolean": True})

    def CREATE(self, options, content) -> None:
        os.makedirs(self._path.parent, exist_ok=True)
        self._path.write_bytes(content)
        self._answer(201)

    def APPEND(self, options, content) -> None:
        with open(self._path, "r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(content)
        self._answer(200)

    def RENAME(self, options, content) -> None:
        target = self._of(options["destination"])
        done = self._path.exists() and not target.exists() and target.parent.is_dir()
        if done:
            os.rename(self._path, target)
        self._answer(200, {"boolean": done})

    def DELETE(self, options, content) -> None:
        there = self._path.exists()
        if self._path.is_dir():
            if options.get("recursive") == "true":
                shutil.rmtree(self._path)
            else:
                os.rmdir(self._path)
        elif there:
            self._path.unlink()
        self._answer(200, {"boolean": there})


@contextmanager
def serving_hdfs(directory: Path) -> Iterator[WebHdfs]:
    served = WebHdfs(directory)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, served=served)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        served.url = f"webhdfs://127.0.0.1:{server.server_port}"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
