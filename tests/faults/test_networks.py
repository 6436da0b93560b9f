"""Networks that are cut in silence, between network namespaces; where one may make these."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator

import pytest
from faulty import GATED, LEASE_SECONDS, Faulty, Work, gates
from processes import PYTXMR, TWISTD, Gate, Process, Site

pytestmark = pytest.mark.daemons

#: Nobody has it: frames that are sent to it arrive, and are not looked at.
NOWHERE = "02:00:00:00:00:01"


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


class Network:
    """Two namespaces, ``near`` and ``far``, and a cable between them."""

    ADDRESSES = {"near": "10.111.0.1", "far": "10.111.0.2"}

    def __init__(self) -> None:
        mark = uuid.uuid4().hex[:6]
        self._spaces = {end: f"pytxmr-{mark}-{end}" for end in self.ADDRESSES}
        self._cards: dict[str, str] = {}
        for space in self._spaces.values():
            ip("netns", "add", space)
        near, far = self._spaces.values()
        ip("-n", near, "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", far)
        for end, address in self.ADDRESSES.items():
            self._ip(end, "addr", "add", f"{address}/24", "dev", end)
            for link in ("lo", end):
                self._ip(end, "link", "set", link, "up")
            shown = self._ip(end, "link", "show", end)
            self._cards[end] = re.search(r"link/ether (\S+)", shown)[1]

    def _ip(self, end: str, *words: str) -> str:
        return ip("-n", self._spaces[end], *words)

    def at(self, end: str) -> tuple[str, ...]:
        """What starts a command there."""
        return ("ip", "netns", "exec", self._spaces[end])

    def cut(self, sender: str) -> None:
        """What this end sends is lost from now on; it is not told."""
        self._send_to(sender, NOWHERE)

    def mend(self) -> None:
        for sender, other in (("near", "far"), ("far", "near")):
            self._send_to(sender, self._cards[other])

    def _send_to(self, sender: str, card: str) -> None:
        (other,) = self.ADDRESSES.keys() - {sender}
        words = ("lladdr", card, "dev", sender, "nud", "permanent")
        self._ip(sender, "neigh", "replace", self.ADDRESSES[other], *words)

    def close(self) -> None:
        for space in self._spaces.values():
            subprocess.run(["ip", "netns", "del", space], check=False, timeout=60)


@pytest.fixture
def network() -> Iterator[Network]:
    if shutil.which("ip") is None:
        pytest.skip("there is no ip(8) here; the package iproute2 has it")
    if os.geteuid() != 0:
        pytest.skip("to make network namespaces one has to be root")
    probe = f"pytxmr-{uuid.uuid4().hex[:6]}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
    ip("netns", "del", probe)
    network = Network()
    try:
        yield network
    finally:
        network.close()


class Parted(Faulty):
    """The jobtracker and a tracker at the network's near end, and a tracker at the far end."""

    def __init__(self, site: Site, network: Network) -> None:
        super().__init__(site)
        self.network = network
        self.client_env["PYTXMR_JOBTRACKER"] = f"tcp:{network.ADDRESSES['near']}:9000"
        site.env |= self.client_env

    def start_jobtracker(self) -> Process:
        self.jobtracker = self.site.twistd(
            "jobtracker", "--listen", f"tcp:9000:interface={self.network.ADDRESSES['near']}",
            "--insecure", "--lease", LEASE_SECONDS, "--state-dir", "jobtracker-state",
            launcher=(*self.network.at("near"), *TWISTD),
        )  # fmt: skip
        self.jobtracker.saw("jobtracker is ready at ")
        return self.jobtracker

    def start_tracker(self, name: str) -> Process:
        address = self.network.ADDRESSES[name]
        self.trackers[name] = self.site.twistd(
            "tasktracker", "--kv-listen", f"tcp:0:interface={address}", "--insecure",
            "--name", name, "--work-dir", self.work_dir(name), "--workers", 1,
            launcher=(*self.network.at(name), *TWISTD),
        )  # fmt: skip
        self.joined(name)
        return self.trackers[name]

    def busy_far(self, work: Work, gate: Gate) -> Process:
        """A job whose only map runs at the far end, and is at the gate."""
        self.start_jobtracker()
        self.start_tracker("far")
        command = [*PYTXMR, "run", *work.words(maps=1)]
        running = self.site.start(*self.network.at("near"), *command)
        gate.reached()
        return running

    def goes_on_near(self, gate: Gate) -> None:
        """The map runs again near by, as the tracker at the far end is lost."""
        self.start_tracker("near")
        self.lost("far")
        gate.reached()
        gate.open()


@pytest.mark.parametrize(
    "cut", [("near", "far"), ("near",), ("far",)], ids=["both ways", "to it", "from it"]
)
def test_a_tracker_behind_a_cut_is_lost_by_its_lease_and_comes_back_by_itself(
    site: Site, network: Network, cut: tuple[str, ...]
) -> None:
    cluster, work = Parted(site, network), Work(site, lines=20, source=GATED)
    with gates(site, "near", "far") as (gate_near, gate_far):
        running = cluster.busy_far(work, gate_far)
        for sender in cut:
            network.cut(sender)
        cluster.goes_on_near(gate_near)
        work.is_done(running)
    network.mend()
    cluster.came_back("far")
    cluster.close()


def test_a_tracker_that_dies_behind_a_cut_is_lost_though_its_connection_is_open(
    site: Site, network: Network
) -> None:
    cluster, work = Parted(site, network), Work(site, lines=20, source=GATED)
    with gates(site, "near", "far") as (gate_near, gate_far):
        running = cluster.busy_far(work, gate_far)
        network.cut("far")
        assert cluster.trackers.pop("far").stop(signal.SIGKILL) == 128 + signal.SIGKILL
        cluster.goes_on_near(gate_near)
        work.is_done(running)
    network.mend()
    cluster.start_tracker("far")
    cluster.came_back("far")
    cluster.close()
