"""Nodes of Ray as processes of this machine, each in a session of its own: what was started here is ended here, and nothing else.

Processors are counted by hand, so that two nodes of eight stand on two cores.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
TOKEN, COMMIT = "a" * 64, "0123456789ab"
WORDS = "--block --disable-usage-stats --object-store-memory 150000000"


def free_ports(count):
    taken = [socket.socket() for _ in range(count)]
    for one in taken:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def surroundings(**more):
    """What a process of the cluster is told: its token, and where this code lies."""
    slow = "PYTHONDONTWRITEBYTECODE"  # with it a node takes three times as long to come
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") and name != slow}
    kept |= {"RAY_memory_monitor_refresh_ms": "0"}  # each node would take the memory of the whole machine for its own, and kill for it
    kept |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ENDOCURATE_COMMIT": COMMIT, **more}


class Node:
    """One `ray start` and all that belongs to it."""

    def __init__(self, words, said, environment=None, within=()):
        ray = Path(sys.executable).with_name("ray")
        with Path(said).open("a") as file:
            self.process = subprocess.Popen(
                [*within, str(ray), "start", *words.split()],
                env=environment or surroundings(),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def members(self):
        """The processes of its session: a raylet puts its workers into groups of their own."""
        found = []
        for one in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.Error):
                if os.getsid(one.pid) == self.process.pid:
                    found.append(one)
        return found

    def titles(self):
        """What its processes call themselves, as in `ray::MapWorker(ProposePatches)`."""
        found = []
        for one in self.members():
            with suppress(psutil.Error):
                found.append(" ".join(one.cmdline()))
        return found

    def works_on(self, title):
        """How many of its workers call themselves so (a regular expression); one that is called amid a batch has `.submit` at its end."""
        return sum(bool(re.match(f"ray::{title}", one)) for one in self.titles())

    def lose(self):
        """SIGKILL to the raylet, then to all that is left: nobody says goodbye, as when a machine is gone."""
        for one in sorted(self.members(), key=lambda one: "raylet/raylet" not in " ".join(cmdline(one))):
            with suppress(psutil.Error):
                one.kill()
        self.process.wait()
        while rest := self.members():
            for one in rest:
                with suppress(psutil.Error):
                    one.kill()
            time.sleep(0.1)

    def end(self):
        """Ray ends what it started when it is asked to; what is left is killed."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.lose()


def cmdline(process):
    with suppress(psutil.Error):
        return process.cmdline()
    return []


class Cluster:
    """A head that schedules no work and the nodes that are added to it; jobs are submitted over HTTP.

    `folder` has a short name: longer ones do not fit the names of Ray's sockets.
    """

    def __init__(self, folder, cpus=0, ip="127.0.0.1", within=()):
        self.folder, self.cpus, self.ip, self.within, self.workers = Path(folder), cpus, ip, tuple(within), []
        self.gcs, self.dashboard, self.client = free_ports(3)
        self.head, self.begun = None, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in [*self.workers, self.head]:
            if node:
                node.end()

    def consist_of(self, *cpus):
        """Have it consist of a head and of new nodes with so many processors each."""
        for node in self.workers:
            node.lose()
        self.workers.clear()
        if self.head is None or self.head.process.poll() is not None:
            self.begin()
        while len(self.alive()) > 1:
            time.sleep(0.5)
        return [self.add(some) for some in cpus]

    @property
    def address(self):
        return f"http://{self.ip}:{self.dashboard}"

    @property
    def said(self):
        return self.folder / "said"

    def begin(self, *more, environment=None):
        """Start the head; when it is begun again on the same ports and an empty disk, as a pod is."""
        words = f"--head {WORDS} {self.own()} --num-cpus {self.cpus} --port {self.gcs} --dashboard-host {self.ip} "
        words += f"--dashboard-port {self.dashboard} --include-dashboard true --ray-client-server-port {self.client}"
        for _ in range(3):  # a raylet dies when its agent takes longer than 15 s to come, as it does on a loaded machine
            self.begun += 1
            place = f"--temp-dir {self.folder}/{self.begun}"
            self.head = Node(f"{words} {place} {' '.join(more)}", self.said, environment, self.within)
            if self.stands(self.head, set()):
                return
            self.head.end()
        raise TimeoutError(f"no head came up: {self.said.read_text()[-2000:]}")

    def add(self, cpus, ip="", within=()):
        """Another node, once the head knows it."""
        words = f"{WORDS} {self.own(ip)} --num-cpus {cpus} --address {self.ip}:{self.gcs}"
        for _ in range(6):  # Ray gives up a node that takes longer than 30 s to come
            before = {one["node_id"] for one in self.alive()}
            node = Node(words, self.said, None, within)
            self.workers.append(node)
            if self.stands(node, before):
                return node
            node.lose()
            self.workers.remove(node)
        raise TimeoutError(f"no node came up: {self.said.read_text()[-2000:]}")

    def own(self, ip=""):
        """Ports and address of one node."""
        agent, metrics, grpc, environments = free_ports(4)
        words = f"--node-ip-address {ip or self.ip} --dashboard-agent-listen-port {agent} --metrics-export-port {metrics} "
        return f"{words} --dashboard-agent-grpc-port {grpc} --runtime-env-agent-port {environments}"

    def stands(self, node, before):
        """Whether there is another node than before once this one has come; False where it ended instead."""
        while node.process.poll() is None:
            with suppress(OSError):
                if {one["node_id"] for one in self.alive()} - before:
                    return True
            time.sleep(0.5)
        return False

    def alive(self):
        """The nodes that the head believes to be there, each a dict; OSError where no head answers."""
        asked = f"{self.address}/api/v0/nodes?detail=true&filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
        request = urllib.request.Request(asked, headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)["data"]["result"]["result"]

    def holds(self, kind="CPU"):
        return sum(node["resources_total"].get(kind, 0) for node in self.alive())

    def submit(self, *words):
        """`endocurate submit` as a process of its own; what it says comes to its `told`."""
        environment = surroundings(RAY_ADDRESS=self.address)
        environment.pop("RAY_AUTH_MODE")
        return Asking([sys.executable, "-m", "jobs", "submit", *words], environment, self.folder / f"submitted-{time.monotonic_ns()}")


class Asking:
    """A command in a process of its own, and what it said so far."""

    def __init__(self, command, environment, said):
        self.path = said
        with said.open("w") as file:
            self.process = subprocess.Popen(command, cwd=said.parent, env=environment, stdout=file, stderr=file, start_new_session=True)

    @property
    def told(self):
        return self.path.read_text()

    def runs(self):
        return self.process.poll() is None

    def code(self, patience=900.0):
        """Its exit code; it is killed where it takes longer."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


def until(true, process, patience=600.0):
    """Wait until something is so, while a process that was asked for it runs."""
    deadline = time.monotonic() + patience
    while not true():
        assert process.runs(), process.told
        assert time.monotonic() < deadline, process.told
        time.sleep(0.2)
