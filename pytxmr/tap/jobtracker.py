"""``twistd jobtracker``."""

from __future__ import annotations

import os

from twisted.application.service import IService
from twisted.python import usage

from pytxmr.jobtracker import JobTracker, JobTrackerConfig
from pytxmr.tap.daemon import Daemon, DaemonOptions


class Options(DaemonOptions):
    synopsis = "--secret-file FILE [--listen ENDPOINT] [--state-dir DIR]"
    longdesc = (
        "One jobtracker per cluster: takes jobs from `pytxmr submit` and `pytxmr run`, and has "
        "them run by the tasktrackers that log in. `pytxmr secret FILE` makes the secret file."
    )
    optParameters = [
        ["listen", "l", "tcp:9000:interface=127.0.0.1", "where trackers and clients log in"],
        ["state-dir", "d", "jobtracker-state", "directory for what survives a restart"],
        ["secret-file", "s", os.environ.get("PYTXMR_SECRET_FILE"), "file of the cluster's secret"],
        ["lease", None, 10.0, "seconds without a heartbeat until a tracker is lost", float],
    ]
    optFlags = [["insecure", None, "allow to listen off loopback, without encryption"]]

    def postOptions(self) -> None:
        self.config = JobTrackerConfig(
            listen=self.check_listen("listen"),
            secret=self.checked_secret(),
            state_dir=os.path.abspath(self["state-dir"]),
            lease_seconds=self["lease"],
            heartbeat_seconds=min(1.0, self["lease"] / 4),
        )
        if self["lease"] <= 0:
            raise usage.UsageError("--lease must be positive")


def makeService(options: Options) -> IService:
    from twisted.internet import reactor

    return Daemon(reactor, JobTracker(reactor, options.config), "jobtracker")
