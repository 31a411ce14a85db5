"""The samples in contrib/, as they are: under the limits that a program is started with, and for one instance."""

import os
import re

from belay import eventually
from test_proxy import CONTRIB, HAPROXY, Haproxy, request

# No right to raise a limit, as where a user other than root starts it.
PLAIN = ["setpriv", "--bounding-set=-sys_resource"] if os.geteuid() == 0 else []


@HAPROXY
async def test_haproxy_starts_under_the_usual_limits(start, tmp_path):
    """haproxy -c is content with more connections than there can be descriptors; only a start tells."""
    belayd = start({"server.trusted_proxies": "127.0.0.1"}, workers=1)
    h = Haproxy(tmp_path, {3000: belayd.port, 3001: belayd.port, 3443: 1, 3444: 1}, before=[*PLAIN, "prlimit", "--nofile=1024:4096"])

    def answers():
        assert h.process.poll() is None, (tmp_path / "haproxy.log").read_text()
        try:
            return b" 200 " in request(h.port, path="/health")[:20]
        except ConnectionRefusedError:
            return False

    try:
        await eventually(answers)
    finally:
        h.stop()


def servers(name):
    """The lines of servers that are in force."""
    return re.findall(r"^\s*server\s+\S.*\d", (CONTRIB / name).read_text(), re.M)


def test_one_server():
    """Instances do not share a store: a second server would know nothing of the first one's devices."""
    assert len(servers("nginx.conf")) == 1
    assert len(servers("haproxy.cfg")) == 2		# one for each of the two ways
    assert len({line.split()[1] for line in servers("haproxy.cfg")}) == 1
