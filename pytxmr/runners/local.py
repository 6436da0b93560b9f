"""A cluster in this process: the same services and the same calls as the daemons'.

The jobtracker listens on a UNIX socket in a directory of its own, mode 0700, which also holds the
tasktracker's spills and is removed at the end; on loopback if that directory's path is too long.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from typing import Any

from twisted.internet.endpoints import clientFromString

from pytxmr.client import Client, connect
from pytxmr.jobtracker import JobTracker, JobTrackerConfig
from pytxmr.net.remote import Peer
from pytxmr.net.spawn import Spawned
from pytxmr.net.workers import WorkerPool
from pytxmr.tasktracker import TaskTracker, TrackerConfig

_START_SECONDS = 30.0
#: A UNIX socket's path is bounded, by 104 bytes on some systems (unix(7), unix(4)).
_MOST_SOCKET_PATH_BYTES = 103


class LocalCluster:
    """One jobtracker and one tasktracker with ``workers`` processes.

    For a program that has a reactor running::

        async with LocalCluster(reactor) as client:
            result = await client.run(make_spec(JobOptions("job.py", ("in.txt",), "out")))

    What still runs at the end of the block is killed. ``workers``: one for each core, if not given;
    ``spawned``: those of them that were started already; they are the cluster's from now on.
    ``jobs``: whether there will be several.
    """

    def __init__(
        self,
        reactor: Any,
        workers: int | None = None,
        spawned: Iterable[Spawned] = (),
        jobs: bool = False,
    ) -> None:
        self._reactor = reactor
        self._workers = workers = workers or len(os.sched_getaffinity(0))
        # For one job and then the end, as mostly, spares would be spawned in vain.
        self._pool = WorkerPool(reactor, workers, spawned, spares=jobs)
        self._services: list[Any] = []
        self.directory = tempfile.mkdtemp(prefix="pytxmr-")
        self.secret = secrets.token_hex(32).encode()
        self.endpoint = ""
        self.tracker: TaskTracker | None = None
        self._client: Peer | None = None

    async def start(self) -> Peer:
        """Start both, and log in. Call `stop` afterwards, also if this fails."""
        socket = os.path.join(self.directory, "jobtracker")
        fits = len(os.fsencode(socket)) <= _MOST_SOCKET_PATH_BYTES
        where = f"unix:{socket}" if fits else "tcp:0:interface=127.0.0.1"
        jobtracker = JobTracker(
            self._reactor, JobTrackerConfig(where, self.secret, heartbeat_seconds=0.25)
        )
        await jobtracker.open()
        self._services.append(jobtracker)
        self.endpoint = jobtracker.address
        jobtracker.startService()
        self.tracker = tracker = TaskTracker(
            self._reactor,
            TrackerConfig(
                name="local",
                work_dir=os.path.join(self.directory, "tasktracker"),
                workers=self._workers,
                kv_listen="tcp:0:interface=127.0.0.1",
                secret=self.secret,
            ),
            clientFromString(self._reactor, self.endpoint),
            self._pool,
        )
        await tracker.open()
        self._services.append(tracker)
        tracker.startService()
        await tracker.registered.addTimeout(_START_SECONDS, self._reactor)
        self._client = await connect(self._reactor, self.endpoint, self.secret)
        return self._client

    async def __aenter__(self) -> Client:
        try:
            peer = await self.start()
        except BaseException:
            await self.stop()
            raise
        return Client(self._reactor, peer, self.endpoint, self.secret)

    async def __aexit__(self, *raised: object) -> None:
        assert self._client is not None
        try:
            for status in await self._client.call("jobs", False):
                while not status["outcome"]:
                    job = status["job"]
                    await self._client.call("kill", job, "the cluster is stopped")
                    status = await self._client.call("wait", job, 1.0)
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End both, every worker and the connection, and remove the directory."""
        if self._client is not None:
            self._client.disconnect()
        for started in self._services:
            await started.stopService()
        await self._pool.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
