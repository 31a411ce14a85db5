"""Turns at storage: nobody's lump lies in front of another's record, and nobody waits for another's connection.

Storage is stopped where something has to wait, so that what is seen does not depend on how quick anything is.
"""

import asyncio
import base64
import contextlib
import json
import secrets

import aiohttp
import pytest

from belay import PATIENCE, eventually, token
from fleet import stopped

FREE = {"limits.message_rate": 100000, "limits.message_burst": 100000, "limits.requests_per_user": 0, "server.hang_time": "5m"}
ALL, OF_TENANT = 256, 8		# cost outstanding at storage, of all gateways: tell.c


def frames(messages):
    """As one piece, so that one read brings many."""
    out = bytearray()
    for m in messages:
        text = json.dumps(m, separators=(",", ":")).encode()
        out += bytes([0x81, 0x80 | len(text)]) if len(text) < 126 else bytes([0x81, 0xfe]) + len(text).to_bytes(2, "big")
        out += bytes(4) + text
    return bytes(out)


def say_at_once(client, messages):
    client.ws.transport.write(frames(messages))


def events_of(n, first=0):
    return [{"type": "event", "payload": {"event": "x_e", "data": {"n": i}}} for i in range(first, first + n)]


def commands_to(device, n):
    return [{"type": "command", "payload": {"deviceId": device, "command": "x", "params": {"n": i}, "queueMs": 60000}} for i in range(n)]


async def all_events(daemon, query, bearer=None):
    """The oldest first."""
    got, cursor = [], ""
    while cursor is not None:
        status, body = await daemon.rest("GET", f"/api/events?limit=500&{query}&cursor={cursor}", bearer=bearer)
        assert status == 200, body
        got += body["events"]
        cursor = body["nextCursor"]
    return got[::-1]


async def metric_is(daemon, name, value):
    await eventually(lambda: reads(daemon, name, value))


async def reads(daemon, name, value):
    return await daemon.metric(name) == value


async def all_stored(daemon):
    """Nothing waits at the gateways, and storage has done with what it was asked."""
    await metric_is(daemon, "belay_turns_waiting", 0)
    await metric_is(daemon, "belay_turns_outstanding", 0)


@contextlib.asynccontextmanager
async def storage_stopped(daemon):
    """And it has done with all that it was asked before."""
    await metric_is(daemon, "belay_turns_outstanding", 0)
    with stopped(daemon.workers()["storage 1"]):
        yield


async def more_than(daemon, name, value):
    return await daemon.metric(name) > value


async def test_a_lump_of_one_tenant_is_never_more_than_its_share(start):
    daemon = start(FREE, workers=1)
    await daemon.register("d1")
    await daemon.register("q1", token("q", "t2"))
    quiet = await daemon.user("q", "t2")
    loud = [await daemon.user(f"l{i}", role="admin") for i in range(3)]
    async with storage_stopped(daemon):
        await quiet.send("command", {"deviceId": "q1", "command": "x", "queueMs": 60000}, "first")
        await metric_is(daemon, "belay_turns_outstanding", 1)
        for c in loud:
            say_at_once(c, commands_to("d1", 100))
        await metric_is(daemon, "belay_turns_outstanding", 1 + OF_TENANT)
        await eventually(lambda: more_than(daemon, "belay_turns_waiting", 20))
        assert await daemon.metric("belay_turns_outstanding") == 1 + OF_TENANT
        # The quiet tenant's does not wait, neither for its turn nor behind the lump.
        waited = await daemon.metric("belay_turns_waited_total")
        await quiet.send("command", {"deviceId": "q1", "command": "x", "queueMs": 60000}, "second")
        await metric_is(daemon, "belay_turns_outstanding", 2 + OF_TENANT)
        assert await daemon.metric("belay_turns_waited_total") == waited
    for id in ("first", "second"):
        await quiet.expect("command_status", where=lambda m: m.get("re") == id)
    # All that was sent is done, in the order of each connection.
    await metric_is(daemon, "belay_commands_created_total", 302)
    await metric_is(daemon, "belay_turns_outstanding", 0)
    assert await daemon.metric("belay_turns_waiting") == 0 and await daemon.metric("belay_turns_refused_total") == 0
    for c in [quiet, *loud]:
        await c.close()


async def test_who_floods_is_not_heard_for_a_while_and_nobody_else(start):
    daemon = start(FREE, workers=1)
    a, b = [await daemon.device(d, await daemon.register(d)) for d in ("a", "b")]		# of one owner
    user = await daemon.user()
    await user.ask("command", {"deviceId": "b", "command": "x"})
    command = (await b.expect("command"))["payload"]["commandId"]
    async with storage_stopped(daemon):
        say_at_once(a, events_of(1000))
        await a.send("heartbeat", {}, "late")
        await eventually(lambda: more_than(daemon, "belay_turns_held_total", 0))
        await metric_is(daemon, "belay_turns_outstanding", ALL)
        # The owner's other device is heard, and its answer to a command goes first.
        assert (await b.ask("heartbeat"))["type"] == "heartbeat_ack"
        await b.send("command_ack", {"commandId": command, "status": "executed"})
        await metric_is(daemon, "belay_turns_outstanding", ALL + 1)
        assert (await user.ask("ping"))["type"] == "pong"
        assert not [m for m in a.kept if m.get("re") == "late"]
    await a.expect("heartbeat_ack", where=lambda m: m.get("re") == "late")
    await user.expect("command_status", where=lambda m: m["payload"]["status"] == "executed")
    await all_stored(daemon)
    got = await all_events(daemon, "type=x_e")
    assert [e["data"]["n"] for e in got] == list(range(1000))
    names = [e["event"] for e in await all_events(daemon, "")]
    before = names[:names.index("command_executed")].count("x_e")
    assert before <= ALL, before
    assert await daemon.metric("belay_turns_held_total") >= 1
    for c in (a, b, user):
        await c.close()


async def silent(daemon):
    """A user's connection that answers no ping; returns when it was ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    writer.write(f"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                 f"Sec-WebSocket-Key: {key}\r\nAuthorization: Bearer {token('silent')}\r\n\r\n".encode())
    await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()


async def test_the_heartbeat_does_not_end_who_is_not_listened_to(start):
    daemon = start({**FREE, "limits.heartbeat": "1s"}, workers=1)
    device = await daemon.device("a", await daemon.register("a"))
    async with storage_stopped(daemon):
        say_at_once(device, events_of(1000))
        await device.send("heartbeat", {}, "late")
        await eventually(lambda: more_than(daemon, "belay_turns_held_total", 0))
        # Others come after it, and are ended for their silence one behind the other.
        await silent(daemon)
        await silent(daemon)
        assert await daemon.metric("belay_heartbeat_lost_total") == 2
    await device.expect("heartbeat_ack", where=lambda m: m.get("re") == "late")
    await all_stored(daemon)
    names = [e["event"] for e in await all_events(daemon, "")]
    assert names.count("x_e") == 1000 and "device_disconnected" not in names
    await device.close()


@pytest.mark.long
async def test_what_nobody_waits_for_is_not_stored_later(start):
    """Its asker has left, or was told that it is not available."""
    daemon = start(FREE, workers=1)
    await daemon.register("d1")
    loud = await daemon.user("loud", role="admin")
    async with storage_stopped(daemon):
        say_at_once(loud, commands_to("d1", 600))
        await metric_is(daemon, "belay_turns_outstanding", ALL)
        body = {"deviceId": "d1", "command": "gone", "queueMs": 60000}
        other = token("other", role="admin")
        waited = await daemon.metric("belay_turns_waited_total")
        asks = asyncio.ensure_future(daemon.rest("POST", "/api/command", body, other))
        await eventually(lambda: more_than(daemon, "belay_turns_waited_total", waited))
        asks.cancel()
        with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError):
            await asks
        await eventually(lambda: more_than(daemon, "belay_turns_dropped_total", 0))
        late = {**body, "command": "late"}
        status, answer = await daemon.rest("POST", "/api/command", late, other)
        assert status == 503 and answer["error"]["code"] == "unavailable", answer
    assert (await daemon.rest("POST", "/api/command", {**body, "command": "after"}, other))[0] == 202
    await all_stored(daemon)
    status, answer = await daemon.rest("GET", "/api/device/d1/commands?limit=500", bearer=other)
    names = [c["command"] for c in answer["commands"]]
    assert names.count("after") == 1 and "gone" not in names and "late" not in names
    await loud.close()


async def test_what_waits_of_one_connection_is_bounded(start):
    daemon = start(FREE, workers=1)
    device = await daemon.device("a", await daemon.register("a"))
    async with storage_stopped(daemon):
        say_at_once(device, events_of(ALL))
        await metric_is(daemon, "belay_turns_outstanding", ALL)
        with stopped(daemon.workers()["gateway 1"]):		# all of it lies there for one read
            say_at_once(device, [{"type": "event", "payload": {"event": "x_e"}}] * 340)
            await asyncio.sleep(0)
        refused = await device.expect("error")
        assert refused["payload"]["code"] == "rate_limited" and refused["payload"]["retryAfterMs"] > 0
        assert await daemon.metric("belay_turns_refused_total") >= 1
        assert await daemon.metric("belay_turns_waiting") <= 256
    await metric_is(daemon, "belay_turns_waiting", 0)
    assert (await device.ask("heartbeat"))["type"] == "heartbeat_ack"
    await device.close()


async def test_a_drain_sends_all_that_waits(start):
    daemon = start({**FREE, "server.drain_time": "60s"}, workers=1)
    device = await daemon.device("a", await daemon.register("a"))
    async with storage_stopped(daemon):
        say_at_once(device, events_of(1000))
        await metric_is(daemon, "belay_turns_outstanding", ALL)
        await eventually(lambda: more_than(daemon, "belay_turns_held_total", 0))
        taken = ALL + await daemon.metric("belay_turns_waiting")
        daemon.process.terminate()
        assert (await device.closed())[0] == 1012
    assert await asyncio.get_running_loop().run_in_executor(None, daemon.process.wait, PATIENCE) == 0
    daemon.stop()
    daemon.start()
    got = await all_events(daemon, "")
    said = [e["data"]["n"] for e in got if e["event"] == "x_e"]
    assert said == list(range(len(said))) and len(said) >= taken
    assert "device_disconnected" not in [e["event"] for e in got]		# it is expected back
