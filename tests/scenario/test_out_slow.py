"""Slow readers: they see the present, are told what they missed, and are ended neither for telemetry nor while they read."""

import asyncio
import shutil
import ssl
import time

import pytest

from belay import eventually, free_port, token
from certs import Authority
from narrow import TEXT, Narrow, frame

FREE = {"limits.message_rate": 1000000, "limits.message_burst": 1000000, "limits.requests_per_user": 0}
SMALL = {**FREE, "limits.send_buffer": "16K", "limits.message_size": "16K"}


async def heard(device):
    """All that the device has sent was taken and shown."""
    await device.ask("ping")


def values(c, name, last):
    """Telemetry of the device as it comes, up to that one: (numbers, dropped by the gaps before it)."""
    got, dropped = [], 0
    while not got or got[-1] != last:
        m = c.message()
        assert isinstance(m, dict), m
        if m["type"] == "gap":
            dropped += m["payload"]["dropped"]
        elif m["type"] == "telemetry" and m["payload"]["deviceId"] == name:
            got.append(m["payload"]["data"]["i"])
    return got, dropped


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
async def test_the_present_is_shown(start, tmp_path, tls):
    """Behind 12 MB of telemetry a viewer reads less than 1 MB before it sees the newest value, and knows how many it missed."""
    more, kwargs = {}, {}
    if tls:
        if not shutil.which("openssl"):
            pytest.skip("SKIP: openssl is wanted")
        authority = Authority(tmp_path / "certs")
        certificate, key = authority.issue("one")
        kwargs = {"port": free_port(), "tls": ssl.create_default_context(cafile=str(authority.root))}
        more = {"server.tls_listen": f"127.0.0.1:{kwargs['port']}", "server.tls_certificate": str(certificate), "server.tls_key": str(key)}
    d = start({**FREE, "limits.send_buffer": "64K", **more})
    device = await d.device("now-1", await d.register("now-1"))
    c = Narrow(d, "/ws", token(), **kwargs)
    assert c.expect("connected")
    last, pad = 6000, "x" * 2000
    for i in range(last + 1):
        await device.send("telemetry", {"data": {"i": i, "pad": pad}})
    await heard(device)
    before = c.count
    got, dropped = await asyncio.to_thread(values, c, "now-1", last)
    assert got == sorted(got)
    assert len(got) + dropped == last + 1
    assert c.count - before < 1 << 20, c.count - before
    c.close()
    await device.close()


async def test_who_keeps_up_misses_nothing(start):
    """However much comes in one turn: telemetry that is posted in one request, beyond what may wait, to a viewer that reads."""
    d = start(SMALL)
    names = [f"all-{i}" for i in range(4)]
    for name in names:
        await d.register(name)
    c = Narrow(d, "/ws", token())
    assert c.expect("connected")
    reading = asyncio.ensure_future(asyncio.to_thread(lambda: [c.message() for _ in range(400)]))
    for n in range(4):
        status, _ = await d.rest("POST", "/api/telemetry", [{"deviceId": names[i % 4], "data": {"i": i, "pad": "x" * 60}} for i in range(100)])
        assert status < 300
    got = await reading
    assert [m["type"] for m in got] == ["telemetry"] * 400
    assert await d.metric("belay_telemetry_conflated_total") == 0
    c.close()


async def test_a_value_larger_than_half_is_sent(start):
    """It is sent when it comes, not when the next message comes, and be that a ping."""
    d = start({**SMALL, "limits.heartbeat": "10m"})
    device = await d.device("large-1", await d.register("large-1"))
    c = Narrow(d, "/ws", token())
    assert c.expect("connected")
    for i in range(3):
        await device.send("telemetry", {"data": {"i": i, "pad": "x" * 14000}})
        got, dropped = await asyncio.to_thread(values, c, "large-1", i)
        assert (got, dropped) == ([i], 0)
    c.close()
    await device.close()


async def test_nobody_is_closed_for_telemetry(start):
    """A viewer that reads nothing gets telemetry of many devices, and now and then what may not be lost: of that it is behind by little."""
    d = start(SMALL)
    names = [f"tel-{i}" for i in range(8)]
    devices = [await d.device(name, await d.register(name)) for name in names]
    c = Narrow(d, "/ws", token())
    assert c.expect("connected")
    pad, last = "x" * 1000, 999
    for i in range(last + 1):
        for device in devices:
            await device.send("telemetry", {"data": {"i": i, "pad": pad}})
    for device in devices:
        await heard(device)
    await eventually(lambda: d.metric("belay_telemetry_conflated_total"))
    await devices[0].ask("event", {"event": "x_large", "data": {"pad": "y" * 12000}})
    newest, events = {}, 0
    while events == 0 or set(newest.values()) != {last} or len(newest) < len(names):
        m = await asyncio.to_thread(c.message)
        assert isinstance(m, dict), m
        if m["type"] == "device_event":
            events += 1
        elif m["type"] == "telemetry":
            newest[m["payload"]["deviceId"]] = m["payload"]["data"]["i"]
    assert await d.metric("belay_slow_consumers_total") == 0
    c.close()
    for device in devices:
        await device.close()


async def test_many_answers_in_one_turn(start):
    """A client that reads is not slow because its requests came together: their answers are written before they are too many."""
    d = start(SMALL, workers=1)
    c = Narrow(d, "/ws", token())
    assert c.expect("connected")
    for _ in range(20):
        c.send(frame(TEXT, b'{"type":"ping"}') * 700)
        for _ in range(700):
            m = c.message()
            assert isinstance(m, dict) and m["type"] == "pong", m
    assert await d.metric("belay_slow_consumers_total") == 0
    c.close()


async def test_after_the_close_frame_nothing_follows(start):
    """Telemetry that waits when a connection is closed is not sent behind the close frame."""
    d = start({**SMALL, "limits.heartbeat": "10m"})
    device = await d.device("end-1", await d.register("end-1"))
    c = Narrow(d, "/ws", token("kicked", role="admin"))
    assert c.expect("connected")
    for i in range(5000):
        await device.send("telemetry", {"data": {"i": i, "pad": "x" * 2000}})
    await heard(device)
    status, body = await d.rest("DELETE", "/v1/websocket/user/kicked/disconnect", bearer=token(role="admin"))
    assert status == 200 and body["disconnected"] == 1

    def rest():
        said = None
        while (m := c.message()) is not None:
            assert said is None, m
            if not isinstance(m, dict):
                said = m
        return said
    assert (await asyncio.to_thread(rest))[0] == 4010
    c.close()
    await device.close()


class Backlog:
    """A dashboard with much to read, none of it telemetry, that answers nothing."""

    def __init__(self, daemon, tls=None):
        self.c, self.d = Narrow(daemon, "/ws", token("slow")), daemon

    async def __aenter__(self):
        assert self.c.expect("connected")
        for i in range(12):
            status, body = await self.d.rest("POST", "/v1/websocket/send/slow", {"type": "x.y", "payload": {"i": i, "pad": "x" * 50000}},
                                             token(role="service"))
            assert (status, body["connections"]) == (200, 1)
        return self.c

    async def __aexit__(self, *_):
        self.c.close()


@pytest.mark.long
async def test_a_slow_reader_is_alive(start):
    """It reads 600 KB in some five heartbeats, and says nothing meanwhile, since the pings are behind what it reads."""
    d = start({**FREE, "limits.heartbeat": "3s"}, workers=1)
    async with Backlog(d) as c:
        began = time.monotonic()

        def read_slowly():
            while c.count < 600000:
                assert c.more(8192), f"cut off after {time.monotonic() - began:.1f} s, {c.count} bytes"
                time.sleep(max(0, began + c.count / 40000 - time.monotonic()))
        await asyncio.to_thread(read_slowly)
        assert await d.metric("belay_heartbeat_lost_total") == 0


async def test_who_reads_nothing_is_not_alive(start):
    """What waits in the kernel and moves on no more is no sign of life."""
    d = start({**FREE, "limits.heartbeat": "1s"}, workers=1)

    async def lost(n):
        return await d.metric("belay_heartbeat_lost_total") == n
    async with Backlog(d):
        await eventually(lambda: lost(1))
    c = Narrow(d, "/ws", token())		# and one with nothing waiting
    assert c.expect("connected")
    await eventually(lambda: lost(2))
    c.close()
