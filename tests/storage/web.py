"""A web server on loopback that serves a directory, with ranges or without."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args, served, **options) -> None:
        self.served = served
        super().__init__(*args, **options)

    def log_message(self, *args) -> None:
        self.served.requests.append((self.command, self.path, self.headers.get("Range")))

    def send_head(self):
        path = self.translate_path(self.path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not self.served.ranges or os.path.isdir(path):
            return super().send_head()
        try:
            data = Path(path).read_bytes()
        except OSError:
            self.send_error(404)
            return None
        self.send_response(206 if asked else 200)
        whole = len(data)
        if asked:
            first, last = int(asked[1]), int(asked[2])
            data = data[first : last + 1]
            self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{whole}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return BytesIO(data)


class Served:
    """``url``; ``requests``: method, path and range of those that were answered."""

    def __init__(self, ranges: bool) -> None:
        self.ranges = ranges
        self.url = ""
        self.requests: list[tuple[str, str, str | None]] = []


@contextmanager
def serving(directory: Path, ranges: bool = True) -> Iterator[Served]:
    served = Served(ranges)
    handler = partial(_Handler, served=served, directory=os.fspath(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
