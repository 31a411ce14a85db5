"""A dashboard that comes back while things go on happening: replayed by a reader, held by its gateway; each event once and in order."""

import asyncio
import json
import os
import signal
from pathlib import Path

import websockets

import fleet
from belay import PATIENCE, eventually, token
from fleet import stopped

FAST = {"limits.message_rate": 100000, "limits.message_burst": 100000, "server.hang_time": "5m"}


async def tell(device, numbers, size=0):
    """Events with these numbers, as fast as they are answered."""
    for n in numbers:
        assert (await device.ask("event", {"event": "x_n", "data": {"n": n, "fill": "x" * size}}))["type"] == "ok"


class Viewer:
    """A dashboard: what it was told, up to now."""

    def __init__(self, belayd, cursor):
        self.belayd, self.cursor, self.token = belayd, cursor, token()
        self.numbers, self.words = [], []

    async def __aenter__(self):
        self.ws = await websockets.connect(f"ws://127.0.0.1:{self.belayd.port}/ws?token={self.token}&resume={self.cursor}", max_size=None, ping_interval=None)
        return self

    async def __aexit__(self, *_):
        await self.ws.close()

    async def until(self, n):
        """Reads up to the event of that number, and the word that all was replayed."""
        while n not in self.numbers or "resumed" not in self.words:
            m = json.loads(await asyncio.wait_for(self.ws.recv(), PATIENCE))
            if m["type"] == "device_event":
                self.numbers.append(m["payload"]["data"]["n"])
            else:
                self.words.append(m["type"])


async def begin(start, settings=None, **kwargs):
    belayd = start({**FAST, **(settings or {})}, workers=1, **kwargs)
    bdt = await belayd.register("d")
    dashboard = await belayd.user()
    device = await belayd.device("d", bdt)
    cursor = (await dashboard.expect("device_connected"))["cursor"]
    await dashboard.close()
    return belayd, device, cursor


async def listens(belayd, viewer):
    """The viewer has asked for what it missed: from now on it listens."""
    before = await belayd.metric("belay_reads_asked_total")
    await viewer.__aenter__()
    async def asked():
        return await belayd.metric("belay_reads_asked_total") > before
    await eventually(asked)


async def test_what_happens_meanwhile_is_held(start):
    """Some of what is held was replayed, too, since the reader looks when all of it is stored."""
    belayd, device, cursor = await begin(start)
    await tell(device, range(100))
    viewer = Viewer(belayd, cursor)
    with stopped(*belayd.workers("reader").values()):
        await listens(belayd, viewer)
        await tell(device, range(100, 150))
    await viewer.until(149)
    await tell(device, range(150, 160))
    await viewer.until(159)
    assert viewer.numbers == list(range(160)) and viewer.words == ["connected", "resumed"]
    await viewer.__aexit__()


async def test_more_than_is_held_is_read_from_the_log(start):
    belayd, device, cursor = await begin(start, {"limits.send_buffer": "64K", "limits.replay": 10000})
    await tell(device, range(10), 2000)
    viewer = Viewer(belayd, cursor)
    with stopped(*belayd.workers("reader").values()):
        await listens(belayd, viewer)
        await tell(device, range(10, 60), 2000)
    await viewer.until(59)
    await tell(device, range(60, 65))
    await viewer.until(64)
    assert viewer.numbers == list(range(65)) and viewer.words == ["connected", "resumed"]
    await viewer.__aexit__()


async def test_a_reader_dies_over_it(start):
    belayd, device, cursor = await begin(start, {"limits.replay": 10000})
    await tell(device, range(300), 500)
    viewer = Viewer(belayd, cursor)
    (pid,) = belayd.workers("reader").values()
    os.kill(pid, signal.SIGSTOP)
    await listens(belayd, viewer)
    await tell(device, range(300, 310))
    os.kill(pid, signal.SIGKILL)
    await viewer.until(309)
    assert viewer.numbers == list(range(310)) and viewer.words == ["connected", "resumed"]
    await viewer.__aexit__()


def private_kb(pid):
    return sum(int(line.split()[1]) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
               if line.startswith(("Private_Dirty:", "Private_Clean:")))


async def test_a_slow_client_costs_no_memory(start):
    """18 MB of events for one who reads nothing for a while: they stay in the log."""
    belayd, device, cursor = await begin(start)
    await tell(device, range(300), 60000)
    (gateway,) = belayd.workers("gateway").values()
    (reader,) = belayd.workers("reader").values()
    before = private_kb(gateway), private_kb(reader)
    viewers = [Viewer(belayd, cursor) for _ in range(5)]
    for v in viewers:
        await listens(belayd, v)
        v.ws.transport.pause_reading()
    await tell(device, range(300, 310), 60000)
    if not fleet.SANITIZED:		# sanitizers keep what was freed
        assert private_kb(gateway) - before[0] < 12000, (before, private_kb(gateway))
        assert private_kb(reader) - before[1] < 6000, (before, private_kb(reader))
    for v in viewers:
        v.ws.transport.resume_reading()
        await v.until(309)
        assert v.numbers == list(range(310)) and v.words == ["connected", "resumed"]
        await v.__aexit__()


async def test_a_token_ends_over_it(start):
    """Who reads slowly is no longer told of anything when its token is over."""
    belayd, device, cursor = await begin(start)
    await tell(device, range(60), 60000)
    viewer = Viewer(belayd, cursor)
    viewer.token = token(ttl=4)
    await listens(belayd, viewer)
    viewer.ws.transport.pause_reading()
    await asyncio.sleep(5)		# the time that the token names
    viewer.ws.transport.resume_reading()
    try:
        await viewer.until(59)
    except websockets.ConnectionClosed:
        pass
    assert (viewer.ws.close_code, viewer.ws.close_reason) == (1008, "Token expired") and "resumed" not in viewer.words
