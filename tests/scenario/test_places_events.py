"""Places of events: per tenant, without a hole, by the server's clock; and what a cursor of none of them gets."""

import asyncio
import os
import signal
import sqlite3

from belay import eventually, token
from fleet import stopped

FAST = {"limits.message_rate": 100000, "limits.message_burst": 100000}


def stored(belayd):
    """{tenant: [places]}, and the number that each tenant's next place comes from."""
    db = sqlite3.connect(belayd.folder / "belay.db")
    places = {}
    for tenant, place in db.execute("SELECT t.name, e.event_pk & 0xffffffffff FROM events e JOIN tenants t ON t.tenant_pk = e.event_pk >> 40 ORDER BY e.event_pk"):
        places.setdefault(tenant, []).append(place)
    newest = dict(db.execute("SELECT t.name, q.newest FROM event_seq q JOIN tenants t USING (tenant_pk)"))
    db.close()
    return places, newest


async def listed(belayd, tenant="t1", **query):
    """All events of a tenant, the newest first."""
    out, cursor = [], ""
    while cursor is not None:
        more = "".join(f"&{k}={v}" for k, v in query.items())
        status, body = await belayd.rest("GET", f"/api/events?limit=500{more}{cursor and '&cursor=' + cursor}", bearer=token("boss", tenant, "admin"))
        assert status == 200, body
        out += body["events"]
        cursor = body["nextCursor"]
    return out


async def replayed(belayd, cursor, tenant="t1", user="u1"):
    c = await belayd.user(user, tenant, None, f"?resume={cursor}")
    got = []
    while True:
        m = await c.recv()
        if m["type"] in ("resumed", "gap"):
            await c.close()
            return got, m
        got.append(m)


async def under_way(belayd):
    """Some of it lies in storage's mailbox; the rest waits for its turn, or to be read."""
    return await belayd.metric("belay_turns_outstanding") > 0


async def test_per_tenant_without_a_hole(start):
    """Two tenants in the same batches, and a storage that is killed again and again: each tenant has 1, 2, 3, …"""
    belayd = start(FAST)
    devices, viewers = {}, {}
    for tenant in ("t1", "t2"):
        bdt = await belayd.register("p-1", bearer=token("u1", tenant))
        viewers[tenant] = await belayd.user("u1", tenant)
        devices[tenant] = await belayd.device("p-1", bdt)
    for n in range(10):
        with stopped(belayd.workers("storage")["storage 1"]):
            for i in range(20):
                for tenant, device in devices.items():
                    if tenant == "t1" or i % 3 == 0:
                        await device.send("event", {"event": "x_n", "data": {"n": n, "i": i}}, f"{n}-{i}")
            await eventually(lambda: under_way(belayd))
        if n % 2:
            was = belayd.workers("storage")["storage 1"]
            os.kill(was, signal.SIGKILL)
            await eventually(lambda was=was: belayd.workers("storage").get("storage 1", was) != was)
        for device in devices.values():
            await device.expect("ok", where=lambda m: m["re"] == f"{n}-18")
    await devices["t1"].expect("ok", where=lambda m: m["re"] == "9-19")
    places, newest = stored(belayd)
    assert {t: len(p) for t, p in places.items()} == {"t1": 202, "t2": 72}
    for tenant, got in places.items():
        assert got == list(range(1, len(got) + 1)) and newest[tenant] == len(got)
        seen, end = await replayed(belayd, (await listed(belayd, tenant))[-1]["cursor"], tenant)
        assert end["payload"]["replayed"] == len(got) - 1
        live = [m for m in viewers[tenant].kept if "cursor" in m]
        while len(live) < len(got) - 1:
            m = await viewers[tenant].recv()
            if "cursor" in m and m not in live:       # told again after a kill
                live.append(m)
        assert seen == live, tenant
        await viewers[tenant].close()
        await devices[tenant].close()


async def test_kept_from_when_they_came(start):
    """An event that says it is of 1970 stays as long as any other; one that came long ago leaves, whatever it says."""
    belayd = start(FAST)
    for tenant in ("t1", "t2"):
        device = await belayd.device("k-1", await belayd.register("k-1", bearer=token("u1", tenant)))
        assert (await device.ask("event", {"event": "x_n", "at": "1970-01-02T00:00:00.000Z"}))["type"] == "ok"
        await device.close()
    event = (await listed(belayd, type="x_n"))[0]
    assert event["at"] == "1970-01-02T00:00:00.000Z" and event["receivedAt"] > "2020"
    old = (await listed(belayd, "t2"))[-1]["cursor"]
    belayd.stop()
    db = sqlite3.connect(belayd.folder / "belay.db")
    db.execute("UPDATE events SET received_at = 1 WHERE event = 'x_n' AND event_pk >> 40 = (SELECT tenant_pk FROM tenants WHERE name = 't2')")
    db.execute("UPDATE events SET received_at = 1, at = 4102444800000 WHERE event = 'device_connected' AND event_pk >> 40 = "
               "(SELECT tenant_pk FROM tenants WHERE name = 't2')")
    db.execute("UPDATE events SET received_at = 1 WHERE event = 'device_registered'")
    db.commit()
    db.close()
    belayd.start()
    belayd.process.send_signal(signal.SIGHUP)       # a reload looks for what is too old

    async def gone():
        return not any(e["event"] == "x_n" for e in await listed(belayd, "t2"))

    await eventually(gone)
    assert [e["event"] for e in await listed(belayd, "t2")] == ["device_disconnected"]
    assert [e["event"] for e in await listed(belayd)] == ["device_disconnected", "x_n", "device_connected"]
    # Too old is a gap; what is there still can be gone on from.
    assert (await replayed(belayd, old, "t2"))[1]["type"] == "gap"
    got, end = await replayed(belayd, (await listed(belayd))[-1]["cursor"])
    assert [m["type"] for m in got] == ["device_event", "device_disconnected"] and end["type"] == "resumed"
    got, end = await replayed(belayd, (await listed(belayd, "t2"))[-1]["cursor"], "t2")
    assert got == [] and end == {"type": "resumed", "payload": {"replayed": 0}}


async def test_no_cursor_is_a_gap(start):
    belayd = start(FAST)
    await belayd.register("n-1")
    oldest = (await listed(belayd))[-1]["at"]
    assert await replayed(belayd, "") == ([], {"type": "gap", "payload": {"dropped": 0, "since": oldest}})
    c = await belayd.user()                         # who does not ask is told nothing
    assert (await c.ask("ping"))["type"] == "pong" and c.kept == []
    await c.close()


async def test_what_was_published_is_what_is_replayed(start):
    """Even after the device's name, its owner's rights and the command itself have changed."""
    belayd = start(FAST)
    bdt = await belayd.register("w-1")
    first = (await listed(belayd))[-1]["cursor"]
    live = await belayd.user()
    device = await belayd.device("w-1", bdt)
    _, body = await belayd.rest("POST", "/api/command", {"deviceId": "w-1", "command": "x", "params": {"a": "ü" * 500}})
    command = (await device.expect("command"))["payload"]["commandId"]
    assert command == body["command"]["commandId"]
    await device.ask("command_ack", {"commandId": command, "status": "accepted"})
    await device.ask("command_ack", {"commandId": command, "status": "executed", "result": {"r": [1, 2]}})
    await device.ask("event", {"event": "x_n", "data": {"k": "v" * 3000}})
    await belayd.rest("PUT", "/api/device/w-1", {"name": "Other"})
    told = []
    while not told or told[-1]["payload"].get("event") != "device_updated":
        m = await live.recv()
        if "cursor" in m:
            told.append(m)
    got, end = await replayed(belayd, first)
    assert got == told and end["payload"] == {"replayed": len(told)}
    # The data of lists is the data that was published, and lies in the file once.
    event = (await listed(belayd, type="x_n"))[0]
    assert event["data"] == {"k": "v" * 3000}
    belayd.stop()
    db = sqlite3.connect(belayd.folder / "belay.db")
    (size,) = db.execute("SELECT length(data_json) + length(payload) FROM events WHERE event = 'x_n'").fetchone()
    assert 3000 < size < 3200, size
    db.close()
    await asyncio.gather(live.close(), device.close())
