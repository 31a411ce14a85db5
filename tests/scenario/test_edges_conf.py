"""What belayd takes from where it runs: the processors it may use, and the variables that are not for it."""

import os


async def test_workers_by_affinity(start):
    """workers = 0 is one gateway for each processor that belayd may use, not that there is."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})		# what is started from here has it too
    try:
        d = start(workers=0)
    finally:
        os.sched_setaffinity(0, allowed)
    assert len(d.workers("gateway")) == 1


async def test_service_links(start):
    """Kubernetes' variables for Services of any name that begins with belay."""
    env = {}
    for n in ("BELAY", "BELAY_SERVER", "BELAY_MQTT", "BELAY_STORE"):
        env |= {f"{n}_SERVICE_HOST": "10.0.0.11", f"{n}_SERVICE_PORT": "3000", f"{n}_SERVICE_PORT_HTTP": "3000",
                f"{n}_PORT": "tcp://10.0.0.11:3000", f"{n}_PORT_3000_TCP": "tcp://10.0.0.11:3000", f"{n}_PORT_3000_TCP_PROTO": "tcp",
                f"{n}_PORT_3000_TCP_PORT": "3000", f"{n}_PORT_3000_TCP_ADDR": "10.0.0.11"}
    d = start(workers=1, env=env)
    assert (await d.rest("GET", "/health", bearer=""))[0] == 200
