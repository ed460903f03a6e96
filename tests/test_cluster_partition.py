"""A head and nodes of Ray in network namespaces with addresses of their own, and the link to one of them cut while it is at work."""

import os
import subprocess
import tempfile
import time

import pytest

from tests.crashes import strikes, trials
from tests.raylets import Cluster
from tests.submitted import asked
from tests.test_cluster_chaos import CLIPS, amid_a_batch, right

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("commit")]
NETWORK = "10.77.{}.{}"


class Link:
    """Three namespaces on a bridge which this machine is on too; OSError where it is refused."""

    def __init__(self):
        self.bridge = f"ec{os.getpid()}"
        self.spaces = [f"{self.bridge}-{name}" for name in ("head", "one", "two")]
        *self.addresses, here = (NETWORK.format(os.getpid() % 250, last) for last in (1, 2, 3, 254))
        self.ip(f"link add name {self.bridge} type bridge")
        self.ip(f"addr add {here}/24 dev {self.bridge}")
        self.ip(f"link set {self.bridge} up")
        for number, (space, address) in enumerate(zip(self.spaces, self.addresses, strict=True)):
            outer = f"{self.bridge}v{number}"
            self.ip(f"netns add {space}")
            self.ip(f"link add {outer} type veth peer name in{number} netns {space}")
            self.ip(f"link set {outer} master {self.bridge}")
            self.ip(f"link set {outer} up")
            self.ip(f"-n {space} addr add {address}/24 dev in{number}")
            self.ip(f"-n {space} link set in{number} up")
            self.ip(f"-n {space} link set lo up")

    def ip(self, words):
        done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"ip {words}: {done.stderr.strip()}")

    def set(self, number, state):
        """The way to a namespace `up` or `down`."""
        self.ip(f"link set {self.bridge}v{number} {state}")

    def end(self):
        for words in (*(f"netns del {space}" for space in self.spaces), f"link del {self.bridge}"):
            subprocess.run(["ip", *words.split()], capture_output=True, check=False)


@pytest.fixture(scope="module")
def link():
    try:
        made = Link()
    except OSError as refused:
        pytest.skip(f"no network namespaces here: {refused}")
    yield made
    made.end()


@pytest.mark.parametrize(("seconds", "comes_back"), [(15, True), (120, False)])
def test_an_ingest_outlives_a_cut_of_the_link_to_a_node(link, tmp_path, seconds, comes_back):
    """A short one is waited for; of a long one Ray makes a lost node, which ends once it hears of that."""
    trials.make_clips(tmp_path, CLIPS)
    assert trials.finish(trials.ingest(tmp_path, tmp_path / "undisturbed")) == 0
    inside = [("ip", "netns", "exec", space) for space in link.spaces]
    head, *others = link.addresses
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r-") as folder, Cluster(folder, ip=head, within=inside[0]) as cluster:
        cluster.begin()
        nodes = [cluster.add(6, address, within) for address, within in zip(others, inside[1:], strict=True)]
        words = asked("ingest", tmp_path, tmp_path / "store")
        asking, far = amid_a_batch(cluster, tmp_path / "store", words)
        link.set(1 + nodes.index(far), "down")
        cut = time.monotonic()
        while time.monotonic() - cut < seconds:
            time.sleep(1)
        before = len(cluster.alive())
        link.set(1 + nodes.index(far), "up")
        assert asking.code() == 0, asking.told
        print(f"cut for {seconds} s, {before} nodes then; the ingest ended {time.monotonic() - cut:.0f} s after the cut began")
        assert before == (3 if comes_back else 2)
        if not comes_back:
            far.process.wait(300)
        assert (far.process.poll() is None) == comes_back
    right(tmp_path / "store", words, strikes.rows_of(str(tmp_path / "undisturbed")))
