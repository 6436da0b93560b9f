"""As much of a Kubernetes cluster as Spark's executors need, on loopback, for tests.

The API keeps what it is given, lists and watches it by labels, and deletes it. A pod is a local
process, with a directory, an address and an environment of its own. There are no nodes, and one
image, which has Java, Spark and a Python: what `_Pod.command` runs is what its entry point would.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from processes import Death, Site, processes_with

IMAGE = "spark-of-the-tests"
_EXECUTOR = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
_KINDS = {
    "pods": "Pod",
    "configmaps": "ConfigMap",
    "services": "Service",
    "persistentvolumeclaims": "PersistentVolumeClaim",
}
_PATH = re.compile(r"/api/v1/namespaces/default/([a-z]+)(?:/([a-z0-9.-]+))?", re.ASCII)
_REQUIREMENT = re.compile(r"([\w./-]+)(=|!=| in )\(?([^()]*)\)?", re.ASCII)


def _accepts(selector: str, labels: dict[str, str]) -> bool:
    """Does a label selector accept what has those labels?"""
    for one in re.split(r",(?![^(]*\))", selector) if selector else ():
        found = _REQUIREMENT.fullmatch(one)
        assert found, f"no such selector here: {one}"
        name, sign, values = found.groups()
        if (labels.get(name) in values.split(",")) == (sign == "!="):
            return False
    return True


class Kubernetes:
    """The cluster, from now until it is closed. Pods have their directories at the site, and their
    processes its mark; ``env`` is the environment that the image brings."""

    def __init__(self, site: Site, env: dict[str, str]) -> None:
        self._env = env | site.mark
        self._directory = site.directory / "pods"
        self._directory.mkdir()
        self._changed = Condition()
        self._kept: dict[tuple[str, str], dict[str, Any]] = {}
        #: All that has happened, in order: the number of an event is its place.
        self._events: list[tuple[str, str, dict[str, Any]]] = []
        self._pods: dict[str, _Pod] = {}
        self._begun = 0
        self._closed = False

        class Requests(_Requests):
            cluster = self

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self.url = f"k8s://http://127.0.0.1:{self._server.server_port}"
        self._serving = Thread(target=self._server.serve_forever, args=(0.05,))
        self._serving.start()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._serving.join()
        for pod in list(self._pods.values()):
            pod.kill()

    def names(self, plural: str = "pods") -> list[str]:
        with self._changed:
            return sorted(name for kind, name in self._kept if kind == plural)

    def wait_until_empty(self, seconds: float) -> None:
        """Wait until neither an object nor a pod's process is left."""
        with self._changed:
            self._changed.wait_for(lambda: not self._kept and not self._pods, seconds)
            assert (self._kept, self._pods) == ({}, {})

    def kill(self, pod: str, seconds: float) -> None:
        """Kill a pod's process, as the kernel does one that takes too much memory, and wait until
        it has ended."""
        with self._changed:
            self._pods[pod].kill()
            assert self._changed.wait_for(lambda: pod not in self._pods, seconds)

    # ---- what the API does

    def create(self, plural: str, given: dict[str, Any]) -> dict[str, Any]:
        with self._changed:
            name = given["metadata"]["name"]
            given["metadata"] |= {"uid": f"{plural}-{len(self._events)}", "namespace": "default"}
            if plural == "pods":
                self._begun += 1
                given["status"] = {"phase": "Pending"}
                self._pods[name] = _Pod(self, self._directory / name, self._begun, given)
            self._put("ADDED", plural, given)
            if plural == "pods":
                self._pods[name].start(self._env)
            return given

    def told(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        """A pod has another status."""
        with self._changed:
            if ("pods", pod["metadata"]["name"]) in self._kept:
                self._put("MODIFIED", "pods", pod | {"status": status})

    def gone(self, pod: dict[str, Any]) -> None:
        """The processes of a pod have ended, and its directory is no more."""
        with self._changed:
            del self._pods[pod["metadata"]["name"]]
            self._changed.notify_all()

    def data_of(self, config_map: str) -> dict[str, str]:
        with self._changed:
            return self._kept["configmaps", config_map]["data"]

    def delete(self, plural: str, name: str) -> dict[str, Any]:
        with self._changed:
            found = self._kept[plural, name]
            self._put("DELETED", plural, found)
            if name in self._pods:
                self._pods[name].end()
            return found

    def listed(self, plural: str, selector: str) -> list[dict[str, Any]]:
        with self._changed:
            return [
                one
                for (kind, _), one in self._kept.items()
                if kind == plural and _accepts(selector, one["metadata"].get("labels", {}))
            ]

    def got(self, plural: str, name: str) -> dict[str, Any]:
        with self._changed:
            return self._kept[plural, name]

    def version(self) -> str:
        return str(len(self._events))

    def watched(self, plural: str, selector: str, since: int | None) -> Iterator[dict[str, Any]]:
        """Events after one, from then on; without it what there is, to begin with."""
        with self._changed:
            at = len(self._events) if since is None else since
            now = self.listed(plural, selector) if since is None else []
        yield from ({"type": "ADDED", "object": one} for one in now)
        while not self._closed:
            with self._changed:
                while not self._closed and len(self._events) == at:
                    self._changed.wait()
                new, at = self._events[at:], len(self._events)
            for kind, what, one in new:
                if kind == plural and _accepts(selector, one["metadata"].get("labels", {})):
                    yield {"type": what, "object": one}

    def _put(self, what: str, plural: str, one: dict[str, Any]) -> None:
        version = {"resourceVersion": str(len(self._events) + 1)}
        one = one | {"metadata": one["metadata"] | version}
        if what == "DELETED":
            del self._kept[plural, one["metadata"]["name"]]
        else:
            self._kept[plural, one["metadata"]["name"]] = one
        self._events.append((plural, what, one))
        self._changed.notify_all()


class _Requests(BaseHTTPRequestHandler):
    cluster: Kubernetes
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        cluster, selector = self.cluster, query.get("labelSelector", "")
        found = _PATH.fullmatch(url.path)
        if found is None or found[1] not in _KINDS:
            return self._refuse(404)
        plural, name = found.groups()
        try:
            if self.command == "GET" and "watch" in query:
                since = query.get("resourceVersion")
                self._stream(cluster.watched(plural, selector, int(since) if since else None))
            elif self.command == "GET" and name is None:
                self._answer(200, self._list(plural, cluster.listed(plural, selector)))
            elif self.command == "GET":
                self._answer(200, self._one(plural, cluster.got(plural, name)))
            elif self.command == "POST":
                self._answer(201, self._one(plural, cluster.create(plural, json.loads(body))))
            elif self.command == "DELETE" and name is not None:
                self._answer(200, self._one(plural, cluster.delete(plural, name)))
            elif self.command == "DELETE":
                names = [one["metadata"]["name"] for one in cluster.listed(plural, selector)]
                gone = [cluster.delete(plural, one) for one in names]
                self._answer(200, self._list(plural, gone))
            else:
                self._refuse(405)
        except KeyError:
            self._refuse(404)

    do_GET = do_POST = do_DELETE = _serve

    @staticmethod
    def _one(plural: str, one: dict[str, Any]) -> dict[str, Any]:
        return {"kind": _KINDS[plural], "apiVersion": "v1"} | one

    def _list(self, plural: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "kind": f"{_KINDS[plural]}List",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": self.cluster.version()},
            "items": items,
        }

    def _refuse(self, code: int) -> None:
        self._answer(
            code,
            {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
            | {"code": code, "message": f"{self.command} {self.path}"},
        )

    def _answer(self, code: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Iterator[dict[str, Any]]) -> None:
        """Send events over a WebSocket, whose other end says nothing but that it closes."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", b64encode(sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        Thread(target=self._send, args=(events,), daemon=True).start()
        self.rfile.read(1)

    def _send(self, events: Iterator[dict[str, Any]]) -> None:
        with suppress(OSError):
            for event in events:
                data = json.dumps(event).encode()
                size = (">BBH", 126) if len(data) < 1 << 16 else (">BBQ", 127)
                self.wfile.write(struct.pack(size[0], 0x81, size[1], len(data)) + data)

    def log_message(self, *said: object) -> None:
        """It says nothing."""


class _Pod:
    """A pod and its only container."""

    def __init__(
        self, cluster: Kubernetes, directory: Path, number: int, given: dict[str, Any]
    ) -> None:
        self._cluster = cluster
        self._directory = directory
        self._given = given
        self._address = f"127.0.{number >> 8}.{number & 255}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, image: dict[str, str]) -> None:
        (container,) = self._given["spec"]["containers"]
        assert container["image"] == IMAGE
        assert container["args"] == ["executor"]
        places = self._mount(container)
        env = image | {one["name"]: self._value(one, places) for one in container["env"]}
        env["TMPDIR"] = places["/tmp"]
        self._process = subprocess.Popen(
            self.command(env),
            cwd=places["/work"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=(self._directory / "log").open("wb"),
            stderr=subprocess.STDOUT,
        )
        self._tell("Running", {"running": {}})
        Thread(target=self._wait).start()

    def _mount(self, container: dict[str, Any]) -> dict[str, str]:
        """Make what is mounted, and other places; where they are here, by where in the pod."""
        volumes = {one["name"]: one for one in self._given["spec"]["volumes"]}
        places = {}
        for name in ("work", "tmp"):
            (self._directory / name).mkdir(parents=True)
            places[f"/{name}"] = str(self._directory / name)
        for mount in container["volumeMounts"]:
            place = self._directory / mount["name"]
            place.mkdir()
            if (source := volumes[mount["name"]].get("configMap")) is not None:
                data = self._cluster.data_of(source["name"])
                for item in source.get("items", ()):
                    (place / item["path"]).write_text(data[item["key"]])
            places[mount["mountPath"]] = str(place)
        return places

    def _value(self, variable: dict[str, Any], places: dict[str, str]) -> str:
        fields = {"status.podIP": self._address, "metadata.name": self._given["metadata"]["name"]}
        if "valueFrom" in variable:
            return fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        value = str(variable.get("value", ""))
        return places.get(value, value)

    @staticmethod
    def command(env: dict[str, str]) -> list[str]:
        """What the entry point of Spark's image runs."""
        options = [name for name in env if name.startswith("SPARK_JAVA_OPT_")]
        options.sort(key=lambda name: int(name.rpartition("_")[2]))
        memory = env["SPARK_EXECUTOR_MEMORY"]
        return [
            "java", f"-Djava.io.tmpdir={env['TMPDIR']}", *(env[name] for name in options),
            f"-Xms{memory}", f"-Xmx{memory}",
            "-cp", f"{env['SPARK_CONF_DIR']}:{env['SPARK_HOME']}/jars/*", _EXECUTOR,
            "--driver-url", env["SPARK_DRIVER_URL"],
            "--executor-id", env["SPARK_EXECUTOR_ID"],
            "--cores", env["SPARK_EXECUTOR_CORES"],
            "--app-id", env["SPARK_APPLICATION_ID"],
            "--hostname", env["SPARK_EXECUTOR_POD_IP"],
            "--resourceProfileId", env["SPARK_RESOURCE_PROFILE_ID"],
            "--podName", env["SPARK_EXECUTOR_POD_NAME"],
        ]  # fmt: skip

    def end(self) -> None:
        """Its processes are told to end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()

    def _wait(self) -> None:
        assert self._process is not None
        status = self._process.wait()
        # With a container's first process go the others.
        others = processes_with("SPARK_EXECUTOR_POD_NAME", self._given["metadata"]["name"])
        for pid in others:
            with suppress(ProcessLookupError):
                other = Death(pid)
                os.kill(pid, signal.SIGKILL)
                other.wait()
        code = status if status >= 0 else 128 - status
        self._tell("Failed" if code else "Succeeded", {"terminated": {"exitCode": code}})
        shutil.rmtree(self._directory)
        self._cluster.gone(self._given)

    def _tell(self, phase: str, state: dict[str, Any]) -> None:
        (container,) = self._given["spec"]["containers"]
        of_container = {"name": container["name"], "image": IMAGE, "state": state}
        self._cluster.told(
            self._given,
            {"phase": phase, "podIP": self._address, "containerStatuses": [of_container]},
        )
