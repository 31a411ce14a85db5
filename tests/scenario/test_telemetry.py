"""Telemetry that is stored (store.telemetry_retention): what is read back, how long it stays, and that it costs neither
viewers nor commands anything when storage is slow, full, killed or stopped.
"""

import asyncio
import os
import signal
import sqlite3
import time

import pytest

from belay import PATIENCE, eventually, run_device, token
from fleet import kill_everything
from test_faults import FAST, drop, fill, is_ready, needs_root, small_disk, whole

ON = {**FAST, "store.telemetry_retention": "1d"}
STORES = pytest.mark.parametrize("store", [None, "memory:"], ids=["sqlite", "memory"])


async def page(daemon, device, query="", **kwargs):
    status, body = await daemon.rest("GET", f"/api/device/{device}/telemetry?{query}", **kwargs)
    assert status == 200, body
    return body["telemetry"], body["nextCursor"]


async def everything(daemon, device, query="limit=500"):
    """Page by page, the newest first."""
    out, cursor = [], ""
    while cursor is not None:
        some, following = await page(daemon, device, query + cursor)
        out += some
        cursor = following and f"&cursor={following}"
    return out


async def counted(daemon, what, n):
    """That many messages of telemetry were stored, or not_stored."""
    async def reached():
        return await daemon.metric(f"belay_telemetry_{what}_total") >= n
    await eventually(reached)
    assert await daemon.metric(f"belay_telemetry_{what}_total") == n


def rows(daemon, what="count(*)"):
    """In the file of the store."""
    db = sqlite3.connect(f"file:{daemon.folder}/belay.db?mode=ro", uri=True)
    try:
        return db.execute(f"SELECT {what} FROM telemetry").fetchone()[0]
    finally:
        db.close()


@STORES
async def test_what_is_read_back(start, store):
    daemon = start(ON, store=store)
    device, viewer = await daemon.device("d1", await daemon.register("d1")), await daemon.user()
    assert await page(daemon, "d1") == ([], None)
    sent = [{"at": f"2026-01-31T12:00:0{n}.123Z", "data": {"n": n, "s": "äß\"\\"}} for n in (1, 3, 2)]
    for s in sent:
        assert (await device.ask("telemetry", s))["type"] == "ok"
    before = time.time()
    await device.send("telemetry", {"data": {"n": 9}})
    await daemon.rest("POST", "/api/telemetry", [{"deviceId": "d1", "at": "2026-01-31T13:00:04+01:00", "data": {"n": 4}},
                                                 {"deviceId": "d1", "at": "1970-01-01T00:00:00Z", "data": {"n": 0}}])
    shown = [(await viewer.expect("telemetry"))["payload"] for _ in range(6)]
    await counted(daemon, "stored", 6)
    got, cursor = await page(daemon, "d1")
    assert [t["data"]["n"] for t in got] == [9, 4, 3, 2, 1, 0] and cursor is None
    # What is stored is what was shown, word for word; the time of what named none is the server's.
    assert sorted(got, key=str) == sorted(shown, key=str)
    assert got[5]["at"] == "1970-01-01T00:00:00.000Z" and got[2] == {"deviceId": "d1", "epoch": 1, **sent[1]}
    assert [t["epoch"] for t in got] == [1, 0, 1, 1, 1, 0]		# none by REST
    assert abs(time.mktime(time.strptime(got[0]["at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone - before) < 5
    for query, wanted in (("limit=2", [9, 4]), ("since=2026-01-31T12:00:02.123Z&until=2026-01-31T12:00:04Z", [3, 2]),
                          ("until=2026-01-31T12:00:01.124Z", [1, 0]), ("since=2099-01-01T00:00:00Z", [])):
        assert [t["data"]["n"] for t in (await page(daemon, "d1", query))[0]] == wanted, query
    for query, field in (("limit=0", "limit"), ("limit=501", "limit"), ("cursor=x", "cursor"), ("cursor=1_x", "cursor"),
                         ("since=now", "since"), ("until=1", "until")):
        status, body = await daemon.rest("GET", f"/api/device/d1/telemetry?{query}")
        assert (status, body["error"]["code"], body["error"]["field"]) == (422, "invalid_payload", field), query
    # One that is not taken is not stored.
    await device.send("telemetry", {"at": "noon", "data": {"n": 7}})
    assert (await device.expect("error"))["payload"]["field"] == "payload.at"
    status, _ = await daemon.rest("POST", "/api/telemetry", [{"deviceId": "d1", "data": {"n": 7}}, {"deviceId": "d1"}])
    assert status == 422
    await device.ask("telemetry", {"data": {"n": 10}})
    await counted(daemon, "stored", 7)
    assert [t["data"]["n"] for t in await everything(daemon, "d1")] == [10, 9, 4, 3, 2, 1, 0]
    assert await daemon.metric("belay_telemetry_not_stored_total") == 0
    for c in (device, viewer):
        await c.close()


@STORES
async def test_who_may_read(start, store):
    daemon = start(ON, store=store)
    device = await daemon.device("d1", await daemon.register("d1"))
    await daemon.rest("POST", "/api/device/d1/share", {"userId": "viewer", "permission": "view"})
    await device.ask("telemetry", {"data": {"n": 1}})
    await counted(daemon, "stored", 1)
    for bearer in (token(), token("viewer"), token("boss", role="admin"), token("backend", role="service")):
        assert [t["data"] for t in (await page(daemon, "d1", bearer=bearer))[0]] == [{"n": 1}]
    assert (await page(daemon, "d1", "tenantId=t1", bearer=daemon.service_key))[0]
    path = "/api/device/d1/telemetry"
    for bearer, path, expected in ((token("stranger"), path, 403), (token("u1", "t2", "admin"), path, 404), ("", path, 401),
                                   (token(), "/api/device/d2/telemetry", 404)):
        assert (await daemon.rest("GET", path, bearer=bearer))[0] == expected, path
    await daemon.rest("DELETE", "/api/device/d1/share/viewer")
    assert (await daemon.rest("GET", "/api/device/d1/telemetry", bearer=token("viewer")))[0] == 403
    await device.close()


@STORES
async def test_pages_while_it_comes(start, store):
    """Each that was there when the first page was read is on one page, once, whatever comes meanwhile."""
    daemon = start(ON, store=store)
    device = await daemon.device("d1", await daemon.register("d1"))
    # A device without a clock among them: many of one time.
    there = [{"at": f"2026-01-31T12:00:00.{n // 3:03}Z", "data": {"n": n}} for n in range(120)]
    for s in there:
        await device.send("telemetry", s)
    await counted(daemon, "stored", len(there))
    seen, cursor, new = [], "", 1000
    while cursor is not None:
        some, following = await page(daemon, "d1", f"limit=7{cursor}")
        seen += [t["data"]["n"] for t in some]
        cursor = following and f"&cursor={following}"
        await device.send("telemetry", {"data": {"n": new}})
        await device.ask("telemetry", {"at": "2026-01-31T12:00:00.020Z", "data": {"n": new + 1}})
        new += 2
        await counted(daemon, "stored", len(there) + new - 1000)
    assert [n for n in seen if n < 1000] == [s["data"]["n"] for s in there][::-1]
    assert len(set(seen)) == len(seen)
    await device.close()


async def test_off_nothing_is_written(start):
    daemon = start(FAST)
    device, viewer = await daemon.device("d1", await daemon.register("d1")), await daemon.user()
    wal, commits, read = daemon.folder / "belay.db-wal", await daemon.metric("belay_store_commits_total"), await daemon.metric("belay_store_records_total")
    size = wal.stat().st_size
    for n in range(200):
        await device.send("telemetry", {"data": {"n": n}})
    for n in range(200):
        assert (await viewer.expect("telemetry"))["payload"]["data"] == {"n": n}
    assert await daemon.metric("belay_store_records_total") == read, "storage was bothered"
    await daemon.rest("POST", "/api/telemetry", {"deviceId": "d1", "data": {"n": 200}})
    assert (await viewer.expect("telemetry"))["payload"]["data"] == {"n": 200}
    assert await page(daemon, "d1") == ([], None)
    assert await daemon.metric("belay_store_commits_total") == commits and wal.stat().st_size == size
    for what in ("taken", "stored", "not_stored"):
        assert await daemon.metric(f"belay_telemetry_{what}_total") == 0
    assert rows(daemon) == 0
    for c in (device, viewer):
        await c.close()


async def reload(daemon, times, **settings):
    """New settings by the file: what stands on the command line would win."""
    (daemon.folder / "belayd.conf").write_text("".join(f"store: {{ {k} = \"{v}\"; }};\n" for k, v in settings.items()))
    daemon.process.send_signal(signal.SIGHUP)

    async def done():
        return await daemon.metric("belay_reloads_total") >= times * len(daemon.workers())
    await eventually(done)


async def test_turned_on_and_off(start):
    daemon = start(FAST)
    device = await daemon.device("d1", await daemon.register("d1"))
    await device.ask("telemetry", {"data": {"n": 1}})
    await reload(daemon, 1, telemetry_retention="1h")
    for n in range(1500):
        await device.send("telemetry", {"data": {"n": n}})
    await counted(daemon, "stored", 1500)
    assert len(await everything(daemon, "d1")) == 1500
    await reload(daemon, 2, telemetry_retention="0")
    assert await page(daemon, "d1") == ([], None)
    await device.ask("telemetry", {"data": {"n": 3}})
    await eventually(lambda: rows(daemon) == 0)
    assert await daemon.metric("belay_telemetry_taken_total") == 1500
    await device.close()


async def test_old_telemetry_goes(start):
    """As new comes, at the latest; each as long after its arrival, whatever time its device told."""
    daemon = start({**ON, "store.telemetry_retention": "2s"})
    device = await daemon.device("d1", await daemon.register("d1"))
    for n in range(100):
        await device.send("telemetry", {"at": "2099-01-01T00:00:00Z" if n % 2 else "1999-01-01T00:00:00Z", "data": {"n": n}})
    await counted(daemon, "stored", 100)
    assert len(await everything(daemon, "d1")) == 100
    sent = 0

    async def gone():
        nonlocal sent
        sent += 1
        await device.ask("telemetry", {"data": {"new": sent}})
        return not [t for t in await everything(daemon, "d1") if "n" in t["data"]]
    await eventually(gone)
    left = await everything(daemon, "d1")
    assert left and len(left) < sent + 1
    await device.close()


async def test_deleted_device_leaves_nothing(start):
    daemon = start(ON)
    bdt, other = await daemon.register("d1"), await daemon.register("d2")
    device, stays = await daemon.device("d1", bdt), await daemon.device("d2", other)
    for n in range(3000):
        await device.send("telemetry", {"data": {"n": n}})
    await stays.ask("telemetry", {"data": {"n": 0}})
    await counted(daemon, "stored", 3001)
    assert (await daemon.rest("DELETE", "/api/device/d1"))[0] == 204
    assert (await daemon.rest("GET", "/api/device/d1/telemetry"))[0] == 404
    await eventually(lambda: rows(daemon) == 1)
    bdt = await daemon.register("d1")
    assert await page(daemon, "d1") == ([], None)
    assert len(await everything(daemon, "d2")) == 1
    drop(device, stays)


# --- what goes wrong


class Meter:
    """A device that tells a number after the other, and all that a viewer was shown of it."""

    def __init__(self, daemon, name):
        self.daemon, self.name, self.sent, self.shown, self.going = daemon, name, 0, [], True

    async def start(self, size=0):
        self.device = await self.daemon.device(self.name, await self.daemon.register(self.name))
        self.viewer = await self.daemon.user()
        await self.viewer.ask("subscribe", {"devices": [self.name]})
        self.filler = "x" * size
        self.tasks = [asyncio.ensure_future(self.speak()), asyncio.ensure_future(self.listen())]
        return self

    async def speak(self):
        while self.going:
            for _ in range(5):
                await self.device.send("telemetry", {"data": {"n": self.sent, "x": self.filler}})
                self.sent += 1
            await asyncio.sleep(0.002)

    async def listen(self):
        while True:
            m = await self.viewer.recv(3600)
            assert m["type"] != "gap", m
            if m["type"] == "telemetry":
                self.shown.append(m["payload"]["data"]["n"])

    async def stop(self):
        """All that was told was shown, in order, once."""
        self.going = False
        await self.tasks[0]
        await eventually(lambda: len(self.shown) >= self.sent)
        assert self.shown == list(range(self.sent))
        self.tasks[1].cancel()
        drop(self.device, self.viewer)

    async def told(self, more):
        """When so many more were shown."""
        goal = len(self.shown) + more
        await eventually(lambda: len(self.shown) >= goal)


async def settled(daemon, meters):
    """Each was stored, or counted as not stored.  Where storage was killed, some that it reads again are counted and stored."""
    sent = sum(m.sent for m in meters)

    async def all_known():
        return await daemon.metric("belay_telemetry_stored_total") + await daemon.metric("belay_telemetry_not_stored_total") >= sent
    await eventually(all_known)


@pytest.mark.long
async def test_storage_killed_under_load(start):
    """No viewer misses one, none is stored twice, and what is lost is counted."""
    daemon = start(ON)
    await run_device(await daemon.device("lock", await daemon.register("lock")))
    meters = [await Meter(daemon, f"m{n}").start() for n in range(3)]
    for n in range(8):
        await meters[n % 3].told(200)
        os.kill(daemon.workers()["storage 1"], signal.SIGKILL)
        await eventually(lambda: is_ready(daemon))
        status, body = await daemon.rest("POST", "/api/command?wait=1", {"deviceId": "lock", "command": "x"})
        assert status == 200 and body["command"]["status"] == "executed", body
    await meters[0].told(200)
    for m in meters:
        await m.stop()
    await settled(daemon, meters)
    sent = sum(m.sent for m in meters)
    lost = await daemon.metric("belay_telemetry_not_stored_total")
    assert await daemon.metric("belay_worker_deaths_total") == 8
    assert daemon.stop() == 0		# and all that waits is written
    whole(daemon)
    stored = rows(daemon)
    assert rows(daemon, "count(DISTINCT device_pk || data_json)") == stored, "stored twice"
    assert sent - lost <= stored <= sent and stored > sent / 2, (sent, stored, lost)


async def test_storage_stopped(start):
    """Its mailbox fills to the half with telemetry: viewers see all, the rest of the room is for those who wait for an answer."""
    daemon = start({**ON, "server.hang_time": "5m"})
    bdt = await daemon.register("lock")
    lock, user = await daemon.device("lock", bdt), await daemon.user()
    other = await daemon.device("other", await daemon.register("other"))
    await user.ask("subscribe", {"devices": ["lock"]})
    meter = await Meter(daemon, "m").start(size=8000)
    storage = daemon.workers()["storage 1"]
    os.kill(storage, signal.SIGSTOP)

    async def lost():
        return await daemon.metric("belay_telemetry_not_stored_total") > 100
    await eventually(lost)
    await meter.told(200)
    for n in range(300):
        await user.send("command", {"deviceId": "lock", "command": "x", "params": {"n": n, "x": "y" * 1000}, "timeoutMs": 60000}, f"n{n}")
        await lock.send("event", {"event": "x_e", "data": {"n": n}})
    assert (await other.ask("heartbeat"))["type"] == "heartbeat_ack"
    assert await daemon.metric("belay_mailbox_full_total") == 0, "something waited for room that telemetry took"
    os.kill(storage, signal.SIGCONT)
    for n in range(300):
        m = await user.expect("command_status", PATIENCE, lambda m: m.get("re") == f"n{n}")
        assert m["payload"]["status"] == "sent"
    await meter.stop()
    await settled(daemon, [meter])
    got = [t["data"]["n"] for t in await everything(daemon, "m")]
    assert sorted(got) == sorted(set(got))
    assert len(got) == await daemon.metric("belay_telemetry_stored_total")
    assert len(got) + await daemon.metric("belay_telemetry_not_stored_total") == meter.sent
    assert daemon.workers()["storage 1"] == storage and await daemon.metric("belay_worker_deaths_total") == 0
    drop(lock, user, other)


async def test_stop_writes_what_waits(start):
    daemon = start(ON)
    device = await daemon.device("d1", await daemon.register("d1"))
    for n in range(700):
        await device.send("telemetry", {"data": {"n": n}})
    await device.ask("telemetry", {"data": {"n": 700}})
    drop(device)
    assert daemon.stop() == 0
    assert rows(daemon) == 701


async def test_instance_killed(start):
    """What was read back is there after the end of everything at once, and nothing of a new run is taken for the old one's."""
    daemon = start(ON)
    bdt = await daemon.register("d1")
    device = await daemon.device("d1", bdt)
    for n in range(2000):
        await device.send("telemetry", {"data": {"n": n, "x": "y" * 500}})
    await counted(daemon, "stored", 2000)
    await kill_everything(daemon)
    drop(device)
    assert len(await everything(daemon, "d1")) == 2000
    device = await daemon.device("d1", bdt)
    for n in range(2000, 2010):
        await device.send("telemetry", {"data": {"n": n}})
    await counted(daemon, "stored", 10)
    assert sorted(t["data"]["n"] for t in await everything(daemon, "d1")) == list(range(2010))
    await device.close()


@needs_root
async def test_full_disk(start):
    """Viewers see all, what is not stored is counted, and storing goes on when there is room again."""
    with small_disk("4m") as disk:
        daemon = start({**ON, "store.url": f"sqlite://{disk}/belay.db"})
        try:
            meter = await Meter(daemon, "m").start(size=500)
            await meter.told(100)
            filler = fill(disk)

            async def lost():
                return await daemon.metric("belay_telemetry_not_stored_total") > 100
            await eventually(lost)
            await meter.told(200)
            assert (await daemon.rest("GET", "/health", bearer=""))[0] == 200
            filler.unlink()
            await eventually(lambda: is_ready(daemon))
            before = await daemon.metric("belay_telemetry_stored_total")

            async def again():
                return await daemon.metric("belay_telemetry_stored_total") > before + 100
            await eventually(again)
            await meter.stop()
            await settled(daemon, [meter])
            got = [t["data"]["n"] for t in await everything(daemon, "m")]
            assert len(set(got)) == len(got) == await daemon.metric("belay_telemetry_stored_total")
            assert len(got) + await daemon.metric("belay_telemetry_not_stored_total") == meter.sent
            assert await daemon.metric("belay_worker_deaths_total") == 0
        finally:
            daemon.stop()


async def test_locked_by_another_program(start):
    """A backup that holds the store for two seconds costs no telemetry."""
    daemon = start(ON)
    meter = await Meter(daemon, "m").start()
    await meter.told(50)
    db = sqlite3.connect(daemon.folder / "belay.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    errors = await daemon.metric("belay_store_errors_total")

    async def noticed():
        return await daemon.metric("belay_store_errors_total") > errors + 2
    await eventually(noticed)
    await meter.told(300)
    db.execute("ROLLBACK")
    db.close()
    await meter.stop()
    await counted(daemon, "stored", meter.sent)
    assert await daemon.metric("belay_telemetry_not_stored_total") == 0
    assert [t["data"]["n"] for t in await everything(daemon, "m")][::-1] == list(range(meter.sent))
