"""Dashboards that come back are told what they missed: nothing twice, nothing left out (protocol section 3.4)."""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import time

import pytest
import websockets

from belay import PATIENCE, eventually, run_device, token
from fleet import stopped

FAST = {"limits.message_rate": 100000, "limits.message_burst": 100000}


def only(messages, *types):
    return [m for m in messages if m["type"] in types]


async def resumed(belayd, cursor, user="u1", tenant="t1", role=None):
    """Connects with a cursor: (client, what it is told before `resumed` or `gap`, that message)."""
    c = await belayd.user(user, tenant, role, f"?resume={cursor}")
    missed = []
    while True:
        m = await c.recv()
        if m["type"] in ("resumed", "gap"):
            return c, missed, m
        missed.append(m)


async def places(belayd, tenant="t1"):
    """The cursors of all events of a tenant, the oldest first."""
    out, cursor = [], ""
    while cursor is not None:
        status, body = await belayd.rest("GET", f"/api/events?limit=500{cursor and '&cursor=' + cursor}", bearer=token("boss", tenant, "admin"))
        assert status == 200, body
        out += [e["cursor"] for e in body["events"]]
        cursor = body["nextCursor"]
    return out[::-1]


async def test_everything_is_told_as_it_was(start):
    """One of each kind: what was published live and what is replayed are the same messages, byte for byte but for nothing."""
    belayd = start(FAST)
    who = {"owner": ("u1", "t1"), "admin": ("boss", "t1", "admin"), "view": ("vw", "t1"), "control": ("ctl", "t1")}
    bdt = await belayd.register("r-1")
    for user, permission in (("vw", "view"), ("ctl", "control")):
        await belayd.rest("POST", "/api/device/r-1/share", {"userId": user, "permission": permission})
    viewers = {k: await belayd.user(*v) for k, v in who.items()}
    device = await belayd.device("r-1", bdt)
    start_at = (await viewers["view"].expect("device_connected"))["cursor"]
    for k in ("owner", "admin", "control"):
        assert (await viewers[k].expect("device_connected"))["cursor"] == start_at
        viewers[k].kept.clear()

    await device.ask("status", {"door": "closed", "n": [1, {"ü": None}]})
    await device.ask("event", {"event": "x_own", "data": {"a": 1}, "at": "2026-01-31T12:00:00.123Z"})
    await device.ask("event", {"event": "motion_detected"})

    async def order(fields, *acks):
        """A command, and what the device makes of it; moments apart, so that their times differ."""
        status, body = await belayd.rest("POST", "/api/command", {"deviceId": "r-1", "params": {"p": 1}, **fields})
        assert status == 202, body
        id = body["command"]["commandId"]
        for ack in acks:
            await asyncio.sleep(0.01)
            assert (await device.ask("command_ack", {"commandId": id, **ack}))["type"] == "ok"
        return id

    await order({"command": "quick"}, {"status": "accepted"}, {"status": "executed", "result": {"r": 1}})
    await order({"command": "wrong"}, {"status": "failed", "error": {"code": "jam", "message": "jammed"}})
    await order({"command": "again"}, {"status": "accepted"}, {"status": "unknown"}, {"status": "executed"})
    await order({"command": "cond", "onlyIf": {"status.door": "open"}})
    late = await order({"command": "late", "timeoutMs": 1000})
    never = await order({"command": "never", "timeoutMs": 1000}, {"status": "accepted"})
    for c in viewers.values():
        for _ in "12":
            await c.expect("command_status", PATIENCE, lambda m: m["payload"]["status"] == "timeout")
    await device.ask("command_ack", {"commandId": late, "status": "executed"})
    await device.ask("command_ack", {"commandId": never, "status": "unknown"})
    visits = []
    for name in ("Ann", "Bob"):
        await device.ask("visitor", {"name": name, "snapshotUrl": "https://x.example/1.jpg", "data": {"k": 1}})
        visits.append(await viewers["control"].expect("new_visitor"))
    for visit, what in zip(visits, ("approve", "deny")):
        status, body = await belayd.rest("POST", f"/api/visitor/{visit['payload']['visitorId']}/{what}")
        assert status == 200
    await belayd.rest("PUT", "/api/device/r-1", {"name": "New"})
    await belayd.rest("POST", "/api/device/r-1/share", {"userId": "vw", "permission": "control"})
    await device.close()
    for c in viewers.values():
        await c.expect("device_disconnected")
        await asyncio.sleep(0.05)
        await c.ask("ping")
    # With the device away: queued, cancelled, expired.
    status, body = await belayd.rest("POST", "/api/command", {"deviceId": "r-1", "command": "q", "queueMs": 60000})
    await belayd.rest("DELETE", f"/api/command/{body['command']['commandId']}")
    status, body = await belayd.rest("POST", "/api/command", {"deviceId": "r-1", "command": "e", "queueMs": 200})
    for c in viewers.values():
        await c.expect("command_status", PATIENCE, lambda m: m["payload"]["status"] == "expired")
    await belayd.rest("POST", "/api/device/r-1/token")
    await belayd.rest("POST", "/api/device/r-1/share", {"userId": "boss", "permission": "view"})
    for c in viewers.values():
        await c.expect("device_event", PATIENCE, lambda m: m["payload"]["event"] == "token_rotated")
        await c.ask("ping")
    # expect() takes what it finds: what there was in all is read from a second round below.
    for k, c in viewers.items():
        await c.close()

    async def replay(k):
        c, missed, end = await resumed(belayd, start_at, *who[k])
        assert end == {"type": "resumed", "payload": {"replayed": len(missed)}}
        await c.close()
        return missed

    # The order of the store, each cursor once, and the same for all but for what is not for them.
    everything = await replay("admin")
    cursors, stored = [m["cursor"] for m in everything], await places(belayd)
    assert cursors == [c for c in stored[stored.index(start_at) + 1:] if c in cursors]
    assert {m["type"] for m in everything} == {"device_status", "device_event", "command_status", "new_visitor", "visitor_decided",
                                               "device_disconnected", "device_shared"}
    seen = [(m["payload"]["command"], m["payload"]["status"]) for m in only(everything, "command_status")]
    for command, states in (("quick", ["sent", "executed"]), ("wrong", ["sent", "failed"]), ("again", ["sent", "sent", "executed"]),
                            ("cond", ["failed"]), ("late", ["sent", "timeout", "executed"]), ("never", ["sent", "timeout"]),
                            ("q", ["cancelled"]), ("e", ["expired"])):
        assert [s for c, s in seen if c == command] == states, command
    own = {k: await replay(k) for k in who}
    assert only(own["owner"], "device_shared") == [] and len(only(own["admin"], "device_shared")) == 1
    assert [m["payload"]["permission"] for m in only(own["view"], "device_shared")] == ["control"]
    without_shares = [m for m in everything if m["type"] != "device_shared"]
    for k in ("owner", "control"):
        assert [m for m in own[k] if m["type"] != "device_shared"] == without_shares


async def test_replayed_is_what_was_published(start):
    """A second dashboard stays connected all the time: what the first is replayed is what the second was sent."""
    belayd = start(FAST)
    bdt = await belayd.register("s-1")
    stays = await belayd.user()
    device = await belayd.device("s-1", bdt)
    first = await stays.expect("device_connected")
    live = []

    async def listen():
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                m = await stays.recv(60)
                if "cursor" in m:
                    live.append(m)

    task = asyncio.ensure_future(listen())
    acks = {"ok": [{"status": "accepted"}, {"status": "executed", "result": [1]}], "bad": [{"status": "failed", "error": "x"}],
            "twice": [{"status": "unknown"}, {"status": "executed"}], "late": [], "never": []}
    late = []
    for command, answers in acks.items():
        _, body = await belayd.rest("POST", "/api/command", {"deviceId": "s-1", "command": command, "timeoutMs": 1000 if not answers else 30000})
        id = body["command"]["commandId"]
        if not answers:
            late.append(id)
        for a in answers:
            await device.ask("command_ack", {"commandId": id, **a})
    await eventually(lambda: len([m for m in live if m["payload"].get("status") == "timeout"]) == 2)
    await device.ask("command_ack", {"commandId": late[0], "status": "executed"})
    await device.ask("command_ack", {"commandId": late[1], "status": "unknown"})
    await device.ask("status", {"s": 1})
    await device.ask("visitor", {"name": "Ann"})
    visit = await eventually(lambda: only(live, "new_visitor"))
    await belayd.rest("POST", f"/api/visitor/{visit[0]['payload']['visitorId']}/approve", bearer=token("boss", role="admin"))
    bdt = await belayd.rest("POST", "/api/device/s-1/token")
    assert await device.closed() == (4011, "Credentials revoked")
    await eventually(lambda: only(live, "device_disconnected"))
    await belayd.rest("PUT", "/api/device/s-1", {"tags": ["x"], "settings": {"a": 1}})
    await eventually(lambda: [m for m in live if m["payload"].get("event") == "device_updated"])
    c, missed, _ = await resumed(belayd, first["cursor"])
    assert missed == live
    task.cancel()
    await c.close()
    await stays.close()


async def test_sent_twice_in_one_moment(start):
    """Two attempts of the same millisecond are told as the two they were, whether one or both were missed."""
    belayd = start(FAST)
    device = await belayd.device("t-1", await belayd.register("t-1"))
    stays, asks = await belayd.user(), await belayd.user()
    command = (await asks.ask("command", {"deviceId": "t-1", "command": "x"}))["payload"]
    await stays.expect("command_status")
    with stopped(belayd.workers()["storage 1"]):        # both are read at once, and so at one time
        for _ in "12":
            await device.send("command_ack", {"commandId": command["commandId"], "status": "unknown"})
        await device.ask("ping")
    live = [await stays.expect("command_status") for _ in "12"]
    assert [m["payload"]["attempt"] for m in live] == [2, 3]
    await device.ask("command_ack", {"commandId": command["commandId"], "status": "executed"})
    live.append(await stays.expect("command_status"))
    for n in range(3):
        c, missed, _ = await resumed(belayd, live[n]["cursor"])
        assert missed == live[n + 1:]
        await c.close()
    assert live[0]["payload"]["trace"][-1]["at"] == live[1]["payload"]["trace"][-1]["at"], "they should be of one moment"
    await stays.close()
    await asks.close()
    await device.close()


async def test_gaps(start):
    belayd = start({**FAST, "limits.replay": 10, "limits.send_buffer": "16K", "limits.message_size": "8K"})
    bdt = await belayd.register("g-1")
    c = await belayd.user()
    device = await belayd.device("g-1", bdt)
    cursor = (await c.expect("device_connected"))["cursor"]
    await c.close()
    for i in range(10):
        await device.ask("event", {"event": "x_n", "data": {"i": i}})
    c, missed, end = await resumed(belayd, cursor)
    assert [m["payload"]["data"]["i"] for m in missed] == list(range(10)) and end["payload"] == {"replayed": 10}
    # It goes on behind it without a break.
    await device.ask("event", {"event": "x_n", "data": {"i": 10}})
    m = await c.expect("device_event")
    assert m["payload"]["data"] == {"i": 10}
    assert m["cursor"] == (await places(belayd))[-1]
    await c.close()
    # One too many: one gap, with how many and since when.
    c, missed, end = await resumed(belayd, cursor)
    _, body = await belayd.rest("GET", "/api/device/g-1/events?type=x_n&limit=50")
    assert missed == [] and end == {"type": "gap", "payload": {"dropped": 11, "since": body["events"][-1]["at"]}}
    await device.ask("event", {"event": "x_n", "data": {"i": 11}})
    assert (await c.expect("device_event"))["payload"]["data"] == {"i": 11}
    await c.close()
    # Few, and more than may wait for one client at a time: they come as fast as it reads.
    for i in range(5):
        await device.ask("event", {"event": "x_n", "data": {"filler": "x" * 4000}})
    c, missed, end = await resumed(belayd, (await places(belayd))[-6])
    assert [m["payload"]["data"] for m in missed] == 5 * [{"filler": "x" * 4000}] and end["payload"] == {"replayed": 5}
    assert (await c.ask("ping"))["type"] == "pong"
    await c.close()
    _, body = await belayd.rest("GET", "/api/events?limit=500")
    oldest = body["events"][-1]["at"]
    # Of no store that there is: numbers of the store, one character changed, cut off, of another kind of list.
    await belayd.rest("POST", "/api/command", {"deviceId": "g-1", "command": "c"})
    _, body = await belayd.rest("POST", "/api/command", {"deviceId": "g-1", "command": "c"})
    _, body = await belayd.rest("GET", "/api/device/g-1/commands?limit=1")
    for bad in ("9999999999", "3", "x", "-1", "1.5", ("B" if cursor[0] == "A" else "A") + cursor[1:], cursor[:-1], cursor + "A",
                "A" * 22, body["nextCursor"]):
        c, missed, end = await resumed(belayd, bad)
        assert missed == [] and end == {"type": "gap", "payload": {"dropped": 0, "since": oldest}}, bad
        await c.close()
    # Nothing missed.
    c, missed, end = await resumed(belayd, (await places(belayd))[-1])
    assert missed == [] and end["payload"] == {"replayed": 0}
    await c.close()
    await device.close()


async def test_many(start):
    """More than is read from the store at once, and than one record between processes holds."""
    belayd = start({**FAST, "memory.mailbox": "64K", "limits.message_size": "4K"})
    device = await belayd.device("m-1", await belayd.register("m-1"))
    for i in range(1000):
        await device.send("event", {"event": "x_n", "data": {"i": i, "filler": "x" * (i % 300)}}, str(i))
    await device.expect("ok", PATIENCE, lambda m: m["re"] == "999")
    stored = await places(belayd)
    for first in (0, 1, 255, 256, 743, 744, 745, 999):      # whole pages, and one more or less
        c, missed, end = await resumed(belayd, stored[1 + first])
        assert [m["payload"]["data"]["i"] for m in missed] == list(range(first, 1000)), first
        assert end == {"type": "resumed", "payload": {"replayed": 1000 - first}}
        await c.close()
    await device.close()


async def test_amid_events(start):
    """Events before and behind the question, none of which is stored yet: all are told, once and in order, replayed or as they come."""
    belayd = start(FAST)
    device = await belayd.device("a-1", await belayd.register("a-1"))
    c = await belayd.user()
    m = await device.ask("event", {"event": "x_n", "data": {"i": 0}})
    cursor = (await c.expect("device_event"))["cursor"]
    await c.close()
    (pid,) = belayd.workers("storage").values()
    os.kill(pid, signal.SIGSTOP)
    try:
        for i in range(1, 51):
            await device.send("event", {"event": "x_n", "data": {"i": i}})
        await device.ask("ping")
        opening = asyncio.ensure_future(belayd.user(query=f"?resume={cursor}"))
        await eventually(lambda: asked(belayd))
        for i in range(51, 101):
            await device.send("event", {"event": "x_n", "data": {"i": i}})
        await device.ask("ping")
    finally:
        os.kill(pid, signal.SIGCONT)
    c = await opening
    told, replayed = [], None
    while replayed is None or len(told) < 100:
        m = await c.recv()
        if m["type"] == "resumed":		# how many that is, is up to when a reader looked
            replayed = m["payload"]["replayed"]
            assert replayed == len(told)
        else:
            told.append(m["payload"]["data"]["i"])
    assert told == [*range(1, 101)]
    await c.close()
    await device.close()


async def asked(belayd):
    """The dashboard is there, and its question asked."""
    return await belayd.metric('belay_websocket_open{party="user"}') == 1


async def test_too_old(start):
    """Events that were deleted meanwhile may have been missed: a gap, not silence."""
    belayd = start(FAST)
    bdt = await belayd.register("o-1")
    device = await belayd.device("o-1", bdt)
    for i in range(5):
        await device.ask("event", {"event": "x_n", "data": {"i": i}})
    await device.close()
    stored = await places(belayd)
    belayd.stop()
    db = sqlite3.connect(belayd.folder / "belay.db")
    db.execute("DELETE FROM events WHERE event_pk & 0xffffffffff <= 4")
    db.execute("UPDATE event_seq SET removed = 4")
    db.commit()
    db.close()
    belayd.start()
    c, missed, end = await resumed(belayd, stored[2])
    assert missed == [] and end["type"] == "gap" and end["payload"]["dropped"] >= 3 and end["payload"]["since"]
    await c.close()
    c, missed, end = await resumed(belayd, stored[3])
    assert end["type"] == "resumed" and [m["payload"]["data"]["i"] for m in missed if m["type"] == "device_event"] == [2, 3, 4]
    await c.close()


async def test_only_what_one_may_still_see(belayd):
    bdt = await belayd.register("v-1")
    await belayd.register("v-2")
    await belayd.rest("POST", "/api/device/v-1/share", {"userId": "guest", "permission": "view"})
    c = await belayd.user("guest")
    device = await belayd.device("v-1", bdt)
    seen = await c.expect("device_connected")
    cursor, cursor_time = seen["cursor"], seen["payload"]["at"]
    await c.close()
    await device.ask("event", {"event": "x_n"})
    c, missed, _ = await resumed(belayd, cursor, "guest")
    assert [m["type"] for m in missed] == ["device_event"]
    await c.close()
    await belayd.rest("DELETE", "/api/device/v-1/share/guest")
    for who in (("guest",), ("stranger",)):
        c, missed, end = await resumed(belayd, cursor, *who)
        assert missed == [] and end["payload"] == {"replayed": 0}, who
        await c.close()
    for who in (("u1", "t2"), ("boss", "t2", "admin")):
        c, missed, end = await resumed(belayd, cursor, *who)
        assert missed == [] and end["type"] == "gap" and end["payload"]["dropped"] == 0, who
        assert cursor_time < end["payload"]["since"] < "9", "nothing of that tenant's: it is now"
        await c.close()
    await device.close()


class Writer:
    """A device that tells numbered events at a rate, whatever happens to its connection, but for AHEAD beyond what `got` holds:
    of so many a dashboard is told on coming back, and beyond what it may be sent at once there would be a gap.
    """

    AHEAD = 2000

    def __init__(self, belayd, name, bdt, rate, got):
        self.belayd, self.name, self.bdt, self.rate, self.got = belayd, name, bdt, rate, got
        self.sent = self.stop = 0
        self.acked = set()

    async def run(self):
        loop = asyncio.get_running_loop()
        while not self.stop:
            try:
                client = await self.belayd.device(self.name, self.bdt)
            except Exception:
                await asyncio.sleep(0.05)
                continue
            reader = asyncio.ensure_future(self.read(client))
            with contextlib.suppress(websockets.ConnectionClosed, OSError):
                began, first = loop.time(), self.sent
                while not self.stop:
                    while not self.stop and self.sent - first < (loop.time() - began) * self.rate and self.sent < len(self.got) + self.AHEAD:
                        self.sent += 1
                        await client.send("event", {"event": "x_n", "data": {"i": self.sent}}, str(self.sent))
                    await asyncio.sleep(0.004)
                await asyncio.sleep(0.3)
            reader.cancel()
            await client.close()

    async def read(self, client):
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                m = await client.recv(3600)
                if m["type"] == "ok":
                    self.acked.add(int(m["re"]))


async def read_for(belayd, cursor, seconds, got):
    """Connects from the cursor, reads for a while, and is cut off without a word.  Returns the last cursor seen."""
    try:
        c = await belayd.user(query=f"?resume={cursor}" if cursor else "")
    except Exception:
        await asyncio.sleep(0.05)
        return cursor
    end = asyncio.get_running_loop().time() + seconds
    with contextlib.suppress(asyncio.TimeoutError, websockets.ConnectionClosed):
        while (left := end - asyncio.get_running_loop().time()) > 0:
            m = await c.recv(left)
            assert m["type"] != "gap", m
            if "cursor" in m:
                got.append(m)
                cursor = m["cursor"]
    c.ws.transport.abort()
    return cursor


CUTS = int(os.environ.get("TEST_RESUME_CUTS", 100))


async def test_cut_at_random(start):
    """A dashboard that is cut off again and again while events are written sees each once, in order; the instance restarts too."""
    belayd = start({**FAST, "limits.replay": 100000})
    bdt = await belayd.register("w-1")
    seed = random.randrange(1 << 30)
    rnd = random.Random(seed)
    print("seed", seed)
    got, cursor = [], (await places(belayd))[-1]
    writer = Writer(belayd, "w-1", bdt, 500, got)
    task = asyncio.ensure_future(writer.run())
    for n in range(CUTS):
        cursor = await read_for(belayd, cursor, rnd.expovariate(1 / 0.05), got)
        if n == CUTS // 2:
            await asyncio.get_running_loop().run_in_executor(None, restart, belayd, signal.SIGTERM)
        if n == CUTS * 3 // 4:
            await asyncio.get_running_loop().run_in_executor(None, restart, belayd, signal.SIGKILL)
    writer.stop = 1
    await task
    await eventually(lambda: is_offline(belayd, "w-1"))
    stored = (await places(belayd))[1:]
    while not got or got[-1]["cursor"] != stored[-1]:
        cursor = await read_for(belayd, cursor, 1, got)
    cursors = [m["cursor"] for m in got]
    assert len(cursors) == len(set(cursors)), "doubled"
    assert cursors == stored, "missed, or out of order"
    told = [m["payload"]["data"]["i"] for m in got if m["type"] == "device_event"]
    assert writer.acked <= set(told), "acknowledged and not shown"
    assert len(told) > CUTS * 5, "hardly anything was written"


async def is_offline(belayd, name):
    _, body = await belayd.rest("GET", f"/api/device/{name}")
    return body["device"]["presence"]["status"] == "offline"


def restart(belayd, sig):
    if sig == signal.SIGKILL:
        pids = belayd.workers().values()
        belayd.process.kill()
        belayd.process.wait()
        belayd.process = None
        belayd.log.close()
        end = time.monotonic() + 10
        while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < end:
            time.sleep(0.01)        # they leave by themselves; until then they listen
    else:
        assert belayd.stop(sig) == 0
    belayd.start()
