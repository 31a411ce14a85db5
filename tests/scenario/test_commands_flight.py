"""A device has a bounded number of commands in flight; the rest waits and follows in order.  Its answers count for nothing in
the limits of messages."""

import asyncio
import os
import signal

import pytest

from belay import Belayd, PATIENCE, eventually

RATES = {"limits.message_rate": 10, "limits.message_burst": 10}


@pytest.fixture(scope="module")
def belayd(tmp_path_factory):
    daemon = Belayd(tmp_path_factory.mktemp("flight"), RATES, store="memory:").start()
    yield daemon
    assert daemon.stop() == 0


class Lock:
    """A connected device, and the commands that were asked of it."""

    def __init__(self, belayd, name, bdt):
        self.belayd, self.name, self.token, self.client, self.ids = belayd, name, bdt, None, []

    async def connect(self):
        self.client = await self.belayd.device(self.name, self.token)

    async def order(self, n=1, **more):
        """n commands, accepted in the order of their numbers: their objects."""
        out = []
        for _ in range(n):
            status, body = await self.belayd.rest("POST", "/api/command", {
                "deviceId": self.name, "command": "x", "params": {"i": len(self.ids)}, "timeoutMs": 300000, **more})
            assert status == 202, body
            out.append(body["command"])
            self.ids.append(out[-1]["commandId"])
        return out

    async def gets(self, *numbers):
        """The next commands that come are these."""
        for i in numbers:
            p = (await self.client.expect("command"))["payload"]
            await eventually(lambda: len(self.ids) > i)		# it may come before the answer to who asked
            assert (p["params"]["i"], p["commandId"]) == (i, self.ids[i])

    async def ack(self, i, status="executed"):
        return (await self.client.ask("command_ack", {"commandId": self.ids[i], "status": status}))["type"]

    async def get(self, i):
        return (await self.belayd.rest("GET", f"/api/command/{self.ids[i]}"))[1]["command"]

    async def count(self, status):
        _, body = await self.belayd.rest("GET", f"/api/device/{self.name}/commands?limit=500")
        return sum(c["status"] == status for c in body["commands"])


names = iter(range(1000))


@pytest.fixture
async def lock(belayd):
    name = f"flight-{next(names)}"
    lock = Lock(belayd, name, await belayd.register(name))
    await lock.connect()
    yield lock
    await lock.client.close()


async def test_the_rest_follows_in_order(lock):
    assert [c["status"] for c in await lock.order(40)] == ["sent"] * 32 + ["queued"] * 8
    await lock.gets(*range(32))
    await lock.client.nothing("command")
    assert await lock.ack(31) == "ok"
    await lock.gets(32)
    # Accepted is not its end: the place is taken still.
    assert await lock.ack(30, "accepted") == "ok"
    await lock.client.nothing("command")
    for i, n in ((30, 33), (0, 34), (32, 35)):
        assert await lock.ack(i, "failed") == "ok"
        await lock.gets(n)
    c, = await lock.order()
    assert c["status"] == "queued"
    await lock.client.nothing("command")


async def test_hundreds_executed_are_hundreds_told(lock):
    """Far above what it may send otherwise: none of its answers is dropped, none of its commands times out."""
    async def run():
        for i in range(300):
            await lock.gets(i)
            assert await lock.ack(i, "accepted") == "ok"
            assert await lock.ack(i) == "ok"

    running = asyncio.ensure_future(run())
    await lock.order(300)
    await asyncio.wait_for(running, PATIENCE)
    assert await lock.count("executed") == 300
    # What it says besides has its limit still, and so has what answers nothing.
    said = [await lock.ack(0) for _ in range(30)]
    codes = [m["payload"]["code"] for m in [await lock.client.ask("command_ack", {"commandId": lock.ids[0], "status": "executed"})
                                           for _ in range(30)]]
    assert set(said) == {"error"} and set(codes) <= {"already_final", "rate_limited"} and "rate_limited" in codes


async def test_answers_to_reconcile(start):
    """Commands that timed out, all asked for again, and answered in one go."""
    belayd = start({**RATES, "limits.commands_in_flight": 300}, store="memory:")
    lock = Lock(belayd, "r", await belayd.register("r"))
    await lock.connect()
    await lock.order(150, timeoutMs=1000)
    await lock.gets(*range(150))
    await lock.client.close()

    async def all_over():
        return await lock.count("timeout") == 150

    await eventually(all_over)
    await lock.connect()
    m = await lock.client.expect("reconcile")
    assert m["payload"]["commandIds"] == lock.ids
    for n, id in enumerate(lock.ids):
        await lock.client.send("command_ack", {"commandId": id, "status": "executed"}, f"a{n}")
    for n in range(150):
        m = await lock.client.recv()
        assert (m["type"], m["re"]) == ("ok", f"a{n}")
    assert await lock.count("executed") == 150
    await lock.client.close()


async def test_a_device_that_never_answers(lock):
    """Timeouts make places."""
    await lock.order(40, timeoutMs=1000, queueMs=60000)
    await lock.gets(*range(40))

    async def all_over():
        return await lock.count("timeout") == 40

    await eventually(all_over)


async def test_no_longer_than_its_timeout(lock):
    """One that may not wait for its device waits for a place for as long as its result would be waited for."""
    await lock.order(32)
    c, = await lock.order(timeoutMs=1000)
    assert (c["status"], c["queueMs"]) == ("queued", 0)

    async def over():
        c = await lock.get(32)
        return c if c["status"] != "queued" else None

    c = await eventually(over)
    assert (c["status"], c["outcome"], c["safeToRetry"], c["sentAt"]) == ("expired", "not_sent", True, None)
    await lock.gets(*range(32))
    assert await lock.ack(5) == "ok"
    await lock.client.nothing("command")


async def test_cancelled_while_it_waits(lock):
    await lock.order(34)
    status, body = await lock.belayd.rest("DELETE", f"/api/command/{lock.ids[32]}")
    assert status == 200 and body["command"]["status"] == "cancelled"
    await lock.gets(*range(32))
    assert await lock.ack(0) == "ok"
    await lock.gets(33)


async def test_a_connection_that_is_lost(lock):
    """What the device had in flight it is asked for, and holds its places until it has answered."""
    await lock.order(36)
    await lock.gets(*range(32))
    await lock.connect()				# takes over
    m = await lock.client.expect("reconcile")
    assert m["payload"]["commandIds"] == lock.ids[:32]
    await lock.client.nothing("command")
    # One that never came is sent again in its own place; one that was run makes room.
    assert await lock.ack(0, "unknown") == "ok"
    await lock.gets(0)
    for i in range(4):
        assert await lock.ack(i) == "ok"
        await lock.gets(32 + i)


@pytest.mark.parametrize("limit", [1, 33])
async def test_the_limit(start, limit):
    belayd = start({**RATES, "limits.commands_in_flight": limit}, store="memory:")
    lock = Lock(belayd, "l", await belayd.register("l"))
    # What waited for the device comes within the limit, too, in steps of 32.
    await lock.order(limit + 3, queueMs=60000)
    await lock.connect()
    await lock.gets(*range(limit))
    await lock.client.nothing("command")
    assert await lock.count("queued") == 3
    for i in range(3):
        assert await lock.ack(i) == "ok"
        await lock.gets(limit + i)
    await lock.client.close()


async def test_storage_is_killed(start):
    """Its successor knows what is in flight and what waits."""
    belayd = start(RATES)
    lock = Lock(belayd, "k", await belayd.register("k"))
    await lock.connect()
    await lock.order(36)
    await lock.gets(*range(32))
    pid, = belayd.workers("storage").values()
    os.kill(pid, signal.SIGKILL)
    c, = await lock.order()
    assert c["status"] == "queued"
    await lock.client.nothing("command")
    for i in range(5):
        assert await lock.ack(i) == "ok"
        await lock.gets(32 + i)
    await lock.client.close()
