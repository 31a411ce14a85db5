"""A gateway that does not read: storage does not wait for it, nothing of it is lost in silence, and what waits outlives storage."""

import os
import signal

from belay import PATIENCE, Stopwatch, eventually
from fleet import stopped, taken_by

FAST = {"limits.message_rate": 100000, "limits.message_burst": 100000, "server.hang_time": "5m", "memory.mailbox": "256K",
        "limits.message_size": "64K", "limits.send_buffer": "64M"}


async def at(daemon, gateway, connect):
    with taken_by(daemon, gateway):
        return await connect()


async def tell(device, first, n, size):
    """n events of that size, each answered."""
    for i in range(first, first + n):
        await device.send("event", {"event": "x_n", "data": {"i": i, "x": "x" * size}}, str(i))
    for i in range(first, first + n):
        await device.expect("ok", where=lambda m, i=i: m["re"] == str(i))
        device.kept.clear()


async def test_what_waits_outlives_storage(start):
    """More than a ring holds waits for the gateway; storage is killed; all of it arrives, once and in order."""
    daemon = start(FAST)
    bdt = await daemon.register("o-1")
    viewer = await at(daemon, "gateway 2", daemon.user)
    device = await at(daemon, "gateway 1", lambda: daemon.device("o-1", bdt))
    await viewer.expect("device_connected")
    with stopped(daemon.workers()["gateway 2"]):
        await tell(device, 0, 60, 20000)        # beyond 256 KB
        storage = daemon.workers()["storage 1"]
        os.kill(storage, signal.SIGKILL)
        await eventually(lambda: daemon.workers("storage").get("storage 1", storage) != storage)
        await tell(device, 60, 20, 20000)
    got = []
    while len(got) < 80:
        m = await viewer.expect("device_event")
        got.append(m["payload"]["data"]["i"])
    assert got == list(range(80))
    assert not [m for m in viewer.kept if m["type"] == "gap"]
    assert await daemon.metric("belay_mailbox_full_total") > 0
    await device.close()
    await viewer.close()


async def test_beyond_the_bound_there_is_a_gap(start):
    """Publications are dropped at last: those who miss them are told, those at other gateways miss nothing, and all goes on."""
    daemon = start(FAST)
    bdt = await daemon.register("o-2")
    viewer = await at(daemon, "gateway 2", daemon.user)
    device = await at(daemon, "gateway 1", lambda: daemon.device("o-2", bdt))
    await viewer.expect("device_connected")
    with stopped(daemon.workers()["gateway 2"]):
        watch = Stopwatch(daemon)
        for n in range(20):                     # 20 MB
            await tell(device, n * 20, 20, 50000)
        needed, _ = watch.stop()
        assert needed < PATIENCE, "storage waited for the one that is stopped"
    got, gap = [], None
    while gap is None:
        m = await viewer.recv()
        if m["type"] == "device_event":
            got.append(m["payload"]["data"]["i"])
        elif m["type"] == "gap":
            gap = m["payload"]
    assert got == list(range(len(got))) and 200 < len(got) < 400, "what was not dropped is in order"
    assert gap["dropped"] == 400 - len(got), gap
    # From here on it misses nothing again, and a cursor from before leads to all of it.
    await tell(device, 400, 1, 10)
    assert (await viewer.expect("device_event"))["payload"]["data"]["i"] == 400
    await device.close()
    await viewer.close()
