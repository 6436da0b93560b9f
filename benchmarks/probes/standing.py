"""Submits a job over and over to a cluster that stands: standing.py ENDPOINT SECRET JOB TEXT DIR.

Prints as JSON the seconds from each submission until the client knows that the job has succeeded,
and those of each ping.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from pytxmr.client import JobOptions, connect, make_spec, submit
from pytxmr.net.secret import read_secret

JOBS = 20
PINGS = 200


async def measure(reactor: Any, endpoint: str, secret: str, job: str, text: str, out: str) -> None:
    jobtracker = await connect(reactor, endpoint, read_secret(secret))
    jobs, pings = [], []
    for number in range(JOBS + 1):
        options = JobOptions(job, (text,), os.path.join(out, str(number)))
        spec = make_spec(options)
        began = time.perf_counter()
        name = await submit(jobtracker, spec)
        status = await jobtracker.call("wait", name, 20.0)
        jobs.append(time.perf_counter() - began)
        if status["outcome"] != "succeeded":
            raise SystemExit(f"{name} has not succeeded: {status}")
    for _ in range(PINGS):
        began = time.perf_counter()
        await jobtracker.call("ping")
        pings.append(time.perf_counter() - began)
    # The first job found no worker started.
    print(json.dumps({"jobs": jobs[1:], "pings": pings}))
    jobtracker.disconnect()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(measure(reactor, *sys.argv[1:])))
