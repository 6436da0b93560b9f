"""``twistd tasktracker``."""

from __future__ import annotations

import os
import re
import socket
from argparse import ArgumentTypeError

from twisted.application.service import IService
from twisted.internet.endpoints import clientFromString
from twisted.python import usage

from pytxmr.cli.options import size as parse_size
from pytxmr.net.limits import DEFAULT_MEMORY_BYTES
from pytxmr.tap.daemon import Daemon, DaemonOptions
from pytxmr.tasktracker import TaskTracker, TrackerConfig


def size(text: str) -> int:
    """Bytes, as the command line of ``pytxmr`` takes them."""
    try:
        return parse_size(text)
    except ArgumentTypeError as error:
        raise ValueError(str(error)) from error


class Options(DaemonOptions):
    synopsis = "--secret-file FILE [--jobtracker ENDPOINT] [--work-dir DIR] [--workers N]"
    longdesc = (
        "One tasktracker per machine (or several, each with its own --work-dir and --kv-listen): "
        "runs attempts in worker processes, keeps the maps' output and serves it to other "
        "trackers, and to people: telnet to the port of --kv-listen and type help."
    )
    optParameters = [
        ["jobtracker", "j", None, "where the jobtracker listens (tcp:127.0.0.1:9000)"],
        ["kv-listen", "k", "tcp:8993:interface=127.0.0.1", "where map output is served"],
        ["work-dir", "w", "tasktracker-work", "directory for spills, logs and the like"],
        ["workers", "n", None, "worker processes [default: one per core]", int],
        [
            "memory",
            "m",
            DEFAULT_MEMORY_BYTES,
            "a worker process's memory, if a job does not say",
            size,
        ],
        ["name", None, None, "this tracker's name [default: host name and work directory]"],
        ["secret-file", "s", os.environ.get("PYTXMR_SECRET_FILE"), "file of the cluster's secret"],
    ]
    optFlags = [["insecure", None, "allow to listen off loopback, without encryption"]]

    def postOptions(self) -> None:
        workers = self["workers"]
        if workers is None:
            workers = len(os.sched_getaffinity(0))
        if not 1 <= workers <= 4096:
            raise usage.UsageError("--workers must be from 1 to 4096")
        self.jobtracker = (
            self["jobtracker"] or os.environ.get("PYTXMR_JOBTRACKER") or "tcp:127.0.0.1:9000"
        )
        work_dir = os.path.abspath(self["work-dir"])
        name = self["name"] or f"{socket.gethostname()}-{os.path.basename(work_dir)}"
        self.config = TrackerConfig(
            name=re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:100],
            work_dir=work_dir,
            workers=workers,
            kv_listen=self.check_listen("kv-listen"),
            secret=self.checked_secret(),
            memory_bytes=self["memory"],
        )


def makeService(options: Options) -> IService:
    from twisted.internet import reactor

    try:
        endpoint = clientFromString(reactor, options.jobtracker)
    except ValueError as error:
        raise usage.UsageError(f"--jobtracker {options.jobtracker}: {error}") from error
    tracker = TaskTracker(reactor, options.config, endpoint)
    daemon = Daemon(reactor, tracker, "tasktracker")
    tracker.gave_up.addCallback(daemon.give_up)
    return daemon
