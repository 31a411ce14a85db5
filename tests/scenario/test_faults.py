"""What goes wrong around an instance: processes killed, a full disk, peers that stop in the middle, mailboxes that fill,
descriptors that run out.  torture.py does the first of these for as long as one likes.
"""

import asyncio
import contextlib
import os
import resource
import secrets
import signal
import socket
import sqlite3
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
import websockets

import fleet
from belay import PATIENCE, Refused, Stopwatch, eventually, run_device, token
from fleet import Fleet, kill, kill_everything, kill_master, stopped, taken_by

FAST = {"limits.commands_in_flight": 10000, "limits.message_rate": 100000, "limits.message_burst": 100000,
        "limits.requests_per_user": 0}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


async def worker_of(daemon, device):
    """Which gateway holds a device: its command's trace says."""
    status, body = await daemon.rest("POST", "/api/command", {"deviceId": device.connected["payload"]["deviceId"], "command": "where"})
    assert status == 202, body
    await device.expect("command")
    await device.ask("command_ack", {"commandId": body["command"]["commandId"], "status": "executed"})
    return f"gateway {[t['worker'] for t in body['command']['trace'] if t['step'] == 'sent'][0]}"


async def presence(daemon, name):
    _, body = await daemon.rest("GET", f"/api/device/{name}")
    return body["device"]["presence"]


async def events(daemon, name, *kinds):
    """Of these kinds, the oldest first."""
    cursor, out = "", []
    while cursor is not None:
        status, body = await daemon.rest("GET", f"/api/device/{name}/events?limit=500{cursor}")
        assert status == 200, body
        out += [e for e in body["events"] if e["event"] in kinds]
        cursor = body["nextCursor"] and f"&cursor={body['nextCursor']}"
    return out[::-1]


async def spread(daemon):
    """A device at each gateway: {name: (connection, gateway)}."""
    out = {}
    for n, gateway in enumerate(sorted(daemon.workers("gateway"))):
        bdt = await daemon.register(f"s{n}")
        with taken_by(daemon, gateway):
            device = await daemon.device(f"s{n}", bdt)
        assert await worker_of(daemon, device) == gateway
        out[f"s{n}"] = device, gateway
    return out


def whole(daemon):
    db = sqlite3.connect(f"file:{daemon.folder}/belay.db?mode=ro", uri=True)
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    db.close()


def drop(*clients):
    """Ends connections without the courtesy of a close frame; websockets would wait for what nobody reads."""
    for c in clients:
        c.ws.transport.abort()


# --- kill -9


@pytest.mark.long
async def test_processes_killed_under_load(start):
    """Twenty rounds of kill -9: every request that was answered is accounted for, and nothing ran twice."""
    daemon = start(FAST, workers=3)
    world = await Fleet(daemon, devices=10, controllers=6, seed=20).start()
    names = sorted(daemon.workers())
    for n in range(20):
        victims = [names[n % len(names)]] if n % 7 else names[:2]
        before = len(world.waits)
        await asyncio.gather(*(kill(daemon, v) for v in victims))
        await eventually(lambda: len(world.waits) >= before + 8)		# it goes on
    await world.unload()
    await world.presence_is_true()
    summary = await world.judge()
    print(summary)
    assert summary["commands"] > 100
    await world.stop()
    await world.nothing_is_left()
    assert await daemon.metric("belay_mailbox_skipped_total") == 0
    assert daemon.stop() == 0
    whole(daemon)


async def test_instance_killed_under_load(start):
    """kill -9 of all processes at once, and a new start on the same store: what was answered is there."""
    daemon = start(FAST)
    world = await Fleet(daemon, devices=6, controllers=4, seed=21).start()
    for n in range(3):
        before = len(world.waits)
        await eventually(lambda: len(world.waits) >= before + 15)
        await kill_everything(daemon)
    before = len(world.waits)
    await eventually(lambda: len(world.waits) >= before + 15)
    await world.unload()
    await world.presence_is_true()
    summary = await world.judge()
    print(summary)
    await world.stop()
    await world.nothing_is_left()
    assert daemon.stop() == 0
    whole(daemon)


async def test_answered_then_killed(start):
    """The moment a request is answered everything dies: the command is there and its queue goes on."""
    daemon = start()
    bdt = await daemon.register("d1")
    ids = []
    for n in range(3):
        status, body = await daemon.rest("POST", "/api/command", {"deviceId": "d1", "command": "x", "params": {"n": n}, "queueMs": 60000})
        assert status == 202
        ids.append(body["command"]["commandId"])
        await kill_everything(daemon)
    device = await daemon.device("d1", bdt)
    done = await run_device(device)
    await eventually(lambda: len(done) == 3)
    assert done == ids
    for id in ids:
        await eventually(lambda: is_final(daemon, id, "executed"))
    await device.close()


async def is_final(daemon, id, status):
    _, body = await daemon.rest("GET", f"/api/command/{id}")
    return body["command"]["status"] == status


async def test_sent_command_and_the_death_of_the_instance(start):
    """Sent, not acknowledged, and then the power goes: the device tells at its next connection."""
    daemon = start()
    bdt = await daemon.register("d1")
    device = await daemon.device("d1", bdt)
    ids = []
    for timeout in (60000, 60000, 1000):
        status, body = await daemon.rest("POST", "/api/command", {"deviceId": "d1", "command": "x", "timeoutMs": timeout})
        ids.append(body["command"]["commandId"])
        await device.expect("command")
    await kill_everything(daemon)
    await eventually(lambda: is_final(daemon, ids[2], "timeout"))
    device = await daemon.device("d1", bdt)
    assert (await device.expect("reconcile"))["payload"]["commandIds"] == ids
    assert (await device.ask("command_ack", {"commandId": ids[0], "status": "executed"}))["type"] == "ok"
    assert (await device.ask("command_ack", {"commandId": ids[1], "status": "unknown"}))["type"] == "ok"
    m = (await device.expect("command"))["payload"]
    assert m["commandId"] == ids[1] and m["attempt"] == 2
    assert (await device.ask("command_ack", {"commandId": ids[1], "status": "executed"}))["type"] == "ok"
    assert (await device.ask("command_ack", {"commandId": ids[2], "status": "unknown"}))["type"] == "ok"
    for id, status, outcome in zip(ids, ("executed", "executed", "timeout"), ("confirmed", "confirmed", "not_sent")):
        _, body = await daemon.rest("GET", f"/api/command/{id}")
        assert body["command"]["status"] == status and body["command"]["outcome"] == outcome
    await device.close()


async def test_device_that_does_not_come_back_is_lost(start):
    """Its gateway dies: those that come back within server.return_time were never gone, the others are told to be lost, once."""
    daemon = start({"server.return_time": "5s"}, workers=2)
    names = [f"d{n}" for n in range(10)]
    tokens = {n: await daemon.register(n) for n in names}
    devices = {n: await daemon.device(n, tokens[n]) for n in names}
    at = {n: await worker_of(daemon, devices[n]) for n in names}
    hit = [n for n in names if at[n] == at["d0"]]
    spared = [n for n in names if n not in hit]
    back, lost = hit[:len(hit) // 2], hit[len(hit) // 2:]
    # The viewer has to survive, so it is at the other gateway: many are tried, those that die with it are let go.
    viewers = [await daemon.user() for _ in range(8)]
    watch = Stopwatch(daemon)
    await kill(daemon, at["d0"])
    epochs = {n: devices[n].connected["payload"]["epoch"] for n in names}
    for n in back:
        devices[n] = await daemon.device(n, tokens[n])
        assert devices[n].connected["payload"]["epoch"] > epochs[n]
    viewers = [v for v in viewers if not v.ws.closed]
    for n in lost:
        await eventually(lambda: told(viewers[0], n) if viewers else is_offline(daemon, n))
    elapsed, needed = watch.stop()
    assert 4.5 <= elapsed and needed < 9
    for n in lost:
        p = await presence(daemon, n)
        assert p["status"] == "offline" and p["reason"] == "worker_lost"
        ends = await events(daemon, n, "device_disconnected")
        assert len(ends) == 1 and ends[0]["data"]["reason"] == "worker_lost"
    for n in back + spared:
        p = await presence(daemon, n)
        assert p["status"] == "online" and p["epoch"] == devices[n].connected["payload"]["epoch"]
        assert await events(daemon, n, "device_disconnected") == []
        assert len(await events(daemon, n, "device_connected")) == (2 if n in back else 1)
        assert (await devices[n].ask("heartbeat"))["type"] == "heartbeat_ack"
    # It comes back later than that: it is connected as ever.
    for n in lost[:1]:
        devices[n] = await daemon.device(n, tokens[n])
        assert (await presence(daemon, n))["status"] == "online"
    assert await daemon.metric("belay_devices_online") == len(back) + len(spared) + len(lost[:1])


async def told(viewer, name):
    with contextlib.suppress(AssertionError):
        return await viewer.expect("device_disconnected", 0.05, lambda m: m["payload"]["deviceId"] == name)


async def is_offline(daemon, name):
    return (await presence(daemon, name))["status"] == "offline"


async def test_devices_that_do_not_come_back_after_a_restart(start):
    daemon = start({"server.return_time": "5s"})
    tokens = {n: await daemon.register(n) for n in ("d1", "d2")}
    clients = [await daemon.device(n, tokens[n]) for n in tokens]
    await kill_everything(daemon)
    back = await daemon.device("d1", tokens["d1"])
    await eventually(lambda: is_offline(daemon, "d2"))
    p = await presence(daemon, "d2")
    assert p["reason"] == "instance_lost"
    assert (await presence(daemon, "d1"))["status"] == "online"
    assert len(await events(daemon, "d2", "device_disconnected")) == 1
    assert await events(daemon, "d1", "device_disconnected") == []
    assert await daemon.metric("belay_devices_online") == 1
    await back.close()
    await eventually(lambda: is_offline(daemon, "d1"))
    assert (await presence(daemon, "d1"))["reason"] != "instance_lost"
    for c in clients:
        with contextlib.suppress(Exception):
            await c.close()


async def test_storage_killed_while_devices_connect_and_leave(start):
    """One connect and one end in the log for each connection, whenever storage dies."""
    daemon = start(FAST)
    names = [f"d{n}" for n in range(8)]
    tokens = {n: await daemon.register(n) for n in names}
    epochs = {n: [] for n in names}
    stop = False

    async def flap(n):
        while not stop:
            try:
                c = await daemon.device(n, tokens[n])
            except Refused as e:
                assert e.code == 1013, e
                continue
            epochs[n].append(c.connected["payload"]["epoch"])
            await c.close()

    tasks = [asyncio.ensure_future(flap(n)) for n in names]
    for _ in range(6):
        await asyncio.sleep(0.3)
        await kill(daemon, "storage 1")
    stop = True
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    for n in names:
        await eventually(lambda: is_offline(daemon, n))
    db = sqlite3.connect(f"file:{daemon.folder}/belay.db?mode=ro", uri=True)
    for n in names:
        rows = db.execute("SELECT event, events.epoch FROM events JOIN devices USING (device_pk) WHERE device_id = ? AND event LIKE 'device%connected'", (n,)).fetchall()
        assert len(rows) == len(set(rows)), "told twice"
        connected = {e for event, e in rows if event == "device_connected"}
        gone = {e for event, e in rows if event == "device_disconnected"}
        assert set(epochs[n]) <= connected
        assert gone <= connected
        # All but those that were replaced before their end was told have one.
        assert max(connected) in gone
    db.close()
    assert await daemon.metric("belay_devices_online") == 0


async def test_storage_killed_while_it_drains(start):
    """Its successor sees to the mail that is left, so that the drain ends with everything stored."""
    daemon = start({**FAST, "server.drain_time": "4s", "server.drain_rate": 2})
    bdt = await daemon.register("d1")
    device, user = await daemon.device("d1", bdt), await daemon.user()
    more = [await daemon.user() for _ in range(4)]
    ids = [(await user.ask("command", {"deviceId": "d1", "command": "x"}))["payload"]["commandId"] for _ in range(20)]
    daemon.process.send_signal(signal.SIGTERM)
    await device.expect("reconnect")
    os.kill(daemon.workers()["storage 1"], signal.SIGKILL)
    for id in ids:
        await device.send("command_ack", {"commandId": id, "status": "executed"}, id)
    assert [(await device.expect("ok"))["re"] for _ in ids] == ids
    drop(device, user, *more)
    assert await asyncio.get_running_loop().run_in_executor(None, daemon.process.wait, PATIENCE) == 0
    daemon.process = None
    daemon.start()
    for id in ids:
        assert await is_final(daemon, id, "executed")


async def test_master_killed_and_the_next_started_at_once(start):
    """Workers of the old instance may still be leaving, storage too, when the new one works on the same store."""
    daemon = start(FAST)
    world = await Fleet(daemon, devices=6, controllers=4, seed=31).start()
    for n in range(5):
        before = len(world.waits)
        if n > 0:
            await kill_master(daemon)
        await eventually(lambda: len(world.waits) >= before + 15)
    await world.unload()
    await world.presence_is_true()
    print(await world.judge())
    await world.stop()
    await world.nothing_is_left()
    assert daemon.stop() == 0
    whole(daemon)


async def test_master_that_is_stopped_is_not_missed(start):
    daemon = start(FAST)
    before = daemon.workers()
    daemon.process.send_signal(signal.SIGSTOP)
    os.kill(before["gateway 2"], signal.SIGKILL)
    for _ in range(10):
        c = await daemon.user()
        await c.close()
    daemon.process.send_signal(signal.SIGCONT)
    await eventually(lambda: daemon.workers().get("gateway 2", before["gateway 2"]) != before["gateway 2"])


async def test_survivors_do_not_grow(start):
    """One gateway dies again and again; what the others hold for it is given back."""
    daemon = start(FAST, workers=2)
    world = await Fleet(daemon, devices=10, controllers=4, pause=0.01, seed=22).start()

    async def rounds(n):
        for _ in range(n):
            before = len(world.waits)
            await kill(daemon, "gateway 1")
            await eventually(lambda: len(world.waits) >= before + 25)

    await rounds(2)
    survivors = {n: p for n, p in fleet.processes(daemon).items() if n != "gateway 1"}
    before = {n: fleet.pss(p) for n, p in survivors.items()}
    stored = stored_bytes(daemon)
    files = {n: descriptors(p) for n, p in survivors.items()}
    await rounds(4)
    after = {n: fleet.pss(p) for n, p in survivors.items()}
    assert {n: p for n, p in fleet.processes(daemon).items() if n != "gateway 1"} == survivors
    for n in survivors:
        room = 320 << 20 if fleet.SANITIZED else 1 << 20	# sanitizers keep what was freed, up to 256 MB
        if n == "storage 1":		# it keeps pages of what was stored meanwhile
            room += stored_bytes(daemon) - stored
        assert after[n] - before[n] < room, (n, before[n], after[n])
    assert descriptors(survivors["master"]) == files["master"]
    assert descriptors(survivors["storage 1"]) == files["storage 1"]
    await world.unload()
    await world.judge()
    await world.stop()
    await world.nothing_is_left()


def stored_bytes(daemon):
    return sum(path.stat().st_size for path in daemon.folder.glob("belay.db*"))


def descriptors(pid):
    """Those of the store are left out: its check-points open the file for themselves, once, when the log is long enough."""
    return sum("/belay.db" not in os.readlink(d) for d in Path(f"/proc/{pid}/fd").iterdir())


# --- the disk


@contextlib.contextmanager
def small_disk(size):
    folder = Path(tempfile.mkdtemp(prefix="belay-disk-"))
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    finally:
        folder.rmdir()


def fill(folder):
    """A file that takes all the room that is left."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(b"x" * 4096)
    return path


@needs_root
async def test_full_disk(start, tmp_path):
    """Requests are refused with unavailable, nothing that was answered is lost, and all goes on when there is room again."""
    with small_disk("4m") as disk:
        daemon = start({**FAST, "store.url": f"sqlite://{disk}/belay.db"})
        try:
            await on_a_full_disk(daemon, disk)
        finally:
            daemon.stop()


async def on_a_full_disk(daemon, disk):
    bdt = await daemon.register("d1")
    device, user = await daemon.device("d1", bdt), await daemon.user()
    before = await user.ask("command", {"deviceId": "d1", "command": "x", "idempotencyKey": "before"})
    waiting = (await device.expect("command"))["payload"]["commandId"]
    filler = fill(disk)
    answered, refused = [waiting], 0
    for n in range(3000):
        m = await user.ask("command", {"deviceId": "d1", "command": "x", "params": {"n": n, "x": "y" * 2000}, "idempotencyKey": f"k{n}", "timeoutMs": 60000})
        if m["type"] == "command_status":
            answered.append(m["payload"]["commandId"])
        else:
            assert m["payload"]["code"] == "unavailable", m
            refused += 1
            if refused == 3:
                break
    assert refused == 3, "the disk did not fill"
    last = n
    status, body = await daemon.rest("POST", "/api/command", {"deviceId": "d1", "command": "x", "params": {"x": "y" * 2000}})
    assert status == 503 and body["error"]["code"] == "unavailable"
    status, body = await daemon.rest("POST", "/api/device/register", {"name": "z" * 100, "metadata": {"x": "y" * 4000}})
    assert status == 503 and body["error"]["code"] == "unavailable"
    assert (await daemon.rest("GET", "/health/ready", bearer=""))[0] == 503
    assert (await daemon.rest("GET", "/health", bearer=""))[0] == 200
    _, body = await daemon.rest("GET", "/api/health/detailed")
    assert body["store"]["status"] != "ok" and body["status"] != "ok"
    # Reading goes on, and so do those who need no store; what a device says in this time is not lost.
    status, body = await daemon.rest("GET", f"/api/command/{waiting}")
    assert status == 200 and body["command"]["status"] == "sent"
    assert (await device.ask("heartbeat"))["type"] == "heartbeat_ack"
    await device.send("telemetry", {"data": {"t": 1}})
    assert (await user.expect("telemetry"))["payload"]["data"] == {"t": 1}
    for id in answered:
        await device.send("command_ack", {"commandId": id, "status": "executed", "result": {"x": "y" * 1000}}, id)
    await device.send("event", {"event": "x_while_full", "data": {"x": "y" * 1000}})
    assert (await device.ask("heartbeat"))["type"] == "heartbeat_ack"
    assert await daemon.metric("belay_store_errors_total") > 0
    filler.unlink()
    await eventually(lambda: is_ready(daemon))
    for id in answered:
        await eventually(lambda: is_final(daemon, id, "executed"))
    oks = [(await device.expect("ok"))["re"] for _ in answered]
    assert sorted(oks) == sorted(answered)
    assert len(await events(daemon, "d1", "x_while_full")) == 1
    # What was refused was not stored: the same key makes a new command.
    m = await user.ask("command", {"deviceId": "d1", "command": "x", "params": {"n": last, "x": "y" * 2000}, "idempotencyKey": f"k{last}", "timeoutMs": 60000})
    assert m["type"] == "command_status" and m["payload"]["commandId"] not in answered
    assert (await device.expect("command", where=lambda m: m["payload"]["params"].get("n") == last))["payload"]["attempt"] == 1
    m = await user.ask("command", {"deviceId": "d1", "command": "x", "idempotencyKey": "before"})
    assert m["payload"]["commandId"] == waiting and before["payload"]["commandId"] == waiting
    assert await daemon.metric("belay_worker_deaths_total") == 0
    for c in (device, user):
        await c.close()
    assert daemon.stop() == 0
    db = sqlite3.connect(f"file:{disk}/belay.db?mode=ro", uri=True)
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()


async def is_ready(daemon):
    return (await daemon.rest("GET", "/health/ready", bearer=""))[0] == 200


@needs_root
async def test_device_that_leaves_and_comes_on_a_full_disk(start):
    """It is refused for the time being; when there is room again it is let in, and its end before is told."""
    with small_disk("4m") as disk:
        daemon = start({**FAST, "store.url": f"sqlite://{disk}/belay.db"})
        try:
            bdt, other = await daemon.register("d1"), await daemon.register("d2")
            device, stays, user = await daemon.device("d1", bdt), await daemon.device("d2", other), await daemon.user()
            filler = fill(disk)
            await until_full(user, "d2")
            await device.close()
            with pytest.raises(Refused) as e:
                for _ in range(100):			# a few may still find room
                    device = await daemon.device("d1", bdt)
            assert e.value.code == 1013
            assert (await stays.ask("heartbeat"))["type"] == "heartbeat_ack"
            filler.unlink()
            await eventually(lambda: is_ready(daemon))
            await eventually(lambda: is_offline(daemon, "d1"))
            device = await daemon.device("d1", bdt)
            assert (await presence(daemon, "d1"))["status"] == "online"
            assert await daemon.metric("belay_devices_online") == 2
            assert (await presence(daemon, "d2"))["status"] == "online"
        finally:
            daemon.stop()


@needs_root
async def test_storage_killed_on_a_full_disk(start):
    """The end of a connection that it kept for later is lost with it: the next command finds that out, and says so."""
    with small_disk("4m") as disk:
        daemon = start({**FAST, "store.url": f"sqlite://{disk}/belay.db"})
        try:
            bdt, other = await daemon.register("d1"), await daemon.register("d2")
            device, stays, user = await daemon.device("d1", bdt), await daemon.device("d2", other), await daemon.user()
            filler = fill(disk)
            await until_full(user, "d2")
            await device.close()
            # Behind the end of the connection in storage's mailbox, so that it was read when this is answered.
            await eventually(lambda: refuses(daemon))
            os.kill(daemon.workers()["storage 1"], signal.SIGKILL)
            filler.unlink()
            await eventually(lambda: is_ready(daemon))
            status, body = await daemon.rest("POST", "/api/command", {"deviceId": "d1", "command": "x"})
            if status == 202:
                await eventually(lambda: is_final(daemon, body["command"]["commandId"], "expired"))
            await eventually(lambda: is_offline(daemon, "d1"))
            assert len(await events(daemon, "d1", "device_disconnected")) == 1
            assert (await daemon.rest("POST", "/api/command", {"deviceId": "d1", "command": "x"}))[0] == 409
            assert (await presence(daemon, "d2"))["status"] == "online"
            drop(stays, user)
        finally:
            daemon.stop()


async def until_full(user, name):
    for n in range(3000):
        m = await user.ask("command", {"deviceId": name, "command": "x", "params": {"x": "y" * 2000}})
        if m["type"] == "error":
            assert m["payload"]["code"] == "unavailable"
            return
    raise AssertionError("the disk did not fill")


async def refuses(daemon):
    return (await daemon.rest("GET", "/health/ready", bearer=""))[0] == 503


async def test_database_locked_by_another_program(start):
    """Somebody's transaction is open for 5 s, longer than a process may hang: refused or stored, nothing between, nobody is killed."""
    daemon = start({**FAST, "server.hang_time": "2s"})
    bdt = await daemon.register("d1")
    device, user = await daemon.device("d1", bdt), await daemon.user()
    before = daemon.workers()
    db = sqlite3.connect(f"{daemon.folder}/belay.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    for n in range(50):
        await user.send("command", {"deviceId": "d1", "command": "x", "params": {"n": n}}, f"n{n}")
        await device.send("event", {"event": "x_e", "data": {"n": n}}, f"e{n}")
    await asyncio.sleep(5)
    assert (await daemon.rest("GET", "/health/ready", bearer=""))[0] == 503
    db.execute("ROLLBACK")
    db.close()
    stored = []
    for n in range(50):
        m = await answer(user, f"n{n}")
        if m["type"] == "command_status":
            stored.append(n)
        else:
            assert m["payload"]["code"] == "unavailable"
    assert [(await device.expect("command"))["payload"]["params"]["n"] for _ in stored] == stored
    await device.nothing("command", 0.1)
    for n in range(50):
        assert (await answer(device, f"e{n}"))["type"] == "ok"
    assert [e["data"]["n"] for e in await events(daemon, "d1", "x_e")] == list(range(50))
    assert daemon.workers() == before
    assert (await user.ask("command", {"deviceId": "d1", "command": "x"}))["type"] == "command_status"
    drop(device, user)


async def answer(client, id, timeout=PATIENCE):
    for i, m in enumerate(client.kept):
        if m.get("re") == id:
            return client.kept.pop(i)
    while True:
        m = await client.recv(timeout)
        if m.get("re") == id:
            return m
        client.kept.append(m)


# --- tables


async def test_more_commands_than_the_table_holds(start):
    """Beyond memory.commands they are sent, acknowledged and timed out like the others."""
    daemon = start({**FAST, "memory.commands": 64})
    bdt = await daemon.register("d1")
    device, user = await daemon.device("d1", bdt), await daemon.user()
    await user.ask("subscribe", {"devices": []})
    # The table's stripes round up: there is room for 2048.
    within = await orders(user, 2100, 300000)
    beyond = await orders(user, 300, 1000)
    lasting = await orders(user, 300, 300000)
    want = {id: "executed" for id in within + lasting} | {id: "timeout" for id in beyond}
    for id in within + lasting:
        await device.send("command_ack", {"commandId": id, "status": "executed"})
    status = {}
    while status != want:
        m = await user.expect("command_status")
        status[m["payload"]["commandId"]] = m["payload"]["status"]
    assert await daemon.metric("belay_commands_pending") == 0
    drop(device, user)


async def orders(user, count, timeout_ms):
    """The ids of so many commands, a hundred of which are asked for at a time."""
    ids = []
    while len(ids) < count:
        asked = [secrets.token_hex(6) for _ in range(100)]
        for id in asked:
            await user.send("command", {"deviceId": "d1", "command": "x", "timeoutMs": timeout_ms}, id)
        for id in asked:
            m = await answer(user, id)
            assert m["type"] == "command_status", m
            ids.append(m["payload"]["commandId"])
    return ids


# --- peers


HANDSHAKE = ("GET /ws?token={} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")


def reset(writer):
    """An end without a word: RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_peers_that_stop_in_the_middle(start):
    """Half a head, half a body, half a frame, a reset at every point: the slot is given back, nobody else notices."""
    daemon = start({**FAST, "limits.handshake_time": "1s", "limits.heartbeat": "2s"})
    bdt = await daemon.register("d1")
    device, user = await daemon.device("d1", bdt), await daemon.user()
    t = token("half")
    body = b'{"deviceId":"d1","command":"x"}'
    post = f"POST /api/command HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {t}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    frame = b"\x81\xfe\x00\xc8\x01\x02\x03\x04" + b"x" * 200
    upgrade = HANDSHAKE.format(t).encode()
    inputs = [b"", b"G", b"GET /health HTTP/1.1\r\nHost", post[:60], post[:-5], post, upgrade[:30], upgrade,
              upgrade + frame[:1], upgrade + frame[:6], upgrade + frame[:50], upgrade + b"\x88\x80\x01\x02\x03", upgrade + b"\x89"]
    open_ones = []
    for data in inputs:
        for end in ("reset", "fin", "silence"):
            if end == "silence" and data in (post, post[:-5]):
                continue			# one that may send its next request, and one that has 30 s for its body
            reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.002)
            if end == "reset":
                reset(writer)
            elif end == "fin":
                with contextlib.suppress(OSError):
                    writer.write_eof()
            open_ones.append((reader, writer))
    assert (await device.ask("heartbeat"))["type"] == "heartbeat_ack"

    async def keep_alive():		# ours answer pings only while something is read
        while True:
            await device.ask("heartbeat")
            await user.ask("ping")
            device.kept.clear()
            await asyncio.sleep(0.3)

    task = asyncio.ensure_future(keep_alive())
    await eventually(lambda: only(daemon, 3))		# the device, the user, and who asks
    task.cancel()
    assert await daemon.metric("belay_worker_deaths_total") == 0
    for _, writer in open_ones:
        writer.close()
    with contextlib.suppress(Exception):
        await asyncio.gather(device.close(), user.close())


async def only(daemon, n):
    return await daemon.metric("belay_connections_open") <= n


async def test_slow_reader_is_no_ones_harm(start):
    """A viewer that does not read: its output is bounded, others get everything, and it ends as a slow consumer."""
    daemon = start({**FAST, "limits.send_buffer": "256K"})
    bdt = await daemon.register("d1")
    device = await daemon.device("d1", bdt)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)		# before it connects, or its window is wide by then
    narrow.connect(("127.0.0.1", daemon.port))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
    writer.write(HANDSHAKE.format(token()).encode())
    await reader.readuntil(b"\r\n\r\n")
    quick = await daemon.user()
    gateways = daemon.workers("gateway")
    before = {n: fleet.pss(p) for n, p in gateways.items()}
    for i in range(600):
        m = await device.ask("event", {"event": "x_a", "data": {"i": i, "filler": "x" * 10000}})
        assert m["type"] == "ok"
        assert (await quick.expect("device_event"))["payload"]["data"]["i"] == i
    assert await eventually(lambda: daemon.metric("belay_slow_consumers_total")) == 1
    after = {n: fleet.pss(p) for n, p in gateways.items()}
    for n in gateways:
        assert after[n] - before[n] < (64 << 20 if fleet.SANITIZED else 2 << 20)
    await asyncio.sleep(5)		# who is slow to read is slow to read why, too
    said = await asyncio.wait_for(reader.read(), PATIENCE)
    assert said.endswith(b"\x88\x0f\x0f\xa8Slow consumer"), said[-100:]
    writer.close()
    await quick.close()
    await device.close()


# --- mailboxes


async def test_storage_stops_for_a_while(start):
    """Stopped for 3 s under load, as a swapping machine or a slow disk would: all requests are answered after."""
    daemon = start({**FAST, "server.hang_time": "60s"})
    world = await Fleet(daemon, devices=8, controllers=6, pause=0.005, seed=23).start()
    bdt = await daemon.register("own")
    device, user = await daemon.device("own", bdt), await daemon.user()
    other = await daemon.device("other", await daemon.register("other"))
    storage = daemon.workers()["storage 1"]
    os.kill(storage, signal.SIGSTOP)
    for n in range(300):
        await user.send("command", {"deviceId": "own", "command": "x", "params": {"n": n}}, f"n{n}")
        await device.send("event", {"event": "x_e", "data": {"n": n}})
    assert (await other.ask("heartbeat"))["type"] == "heartbeat_ack"		# it needs no store
    assert (await daemon.rest("GET", "/health", bearer=""))[0] == 200
    watch = Stopwatch(daemon)
    status, _ = await daemon.rest("GET", "/health/ready", bearer="")		# waits, and gives up before a load balancer does
    assert status == 503 and watch.stop()[1] < 6
    os.kill(storage, signal.SIGCONT)
    ids = [(await user.expect("command_status", PATIENCE, lambda m: m.get("re") == f"n{n}"))["payload"]["commandId"] for n in range(300)]
    got = [(await device.expect("command"))["payload"]["commandId"] for _ in range(300)]
    assert got == ids
    for id in ids:
        await device.send("command_ack", {"commandId": id, "status": "executed"})
    assert [e["data"]["n"] for e in await events(daemon, "own", "x_e")] == list(range(300))
    assert daemon.workers()["storage 1"] == storage
    await world.unload()
    await world.judge()
    await world.stop()
    drop(device, user, other)
    await world.nothing_is_left(20)


async def held(daemon, n):
    return await daemon.metric("belay_turns_held_total") >= n


@pytest.mark.long
async def test_storage_stops_for_long(start):
    """Next to nothing waits in the server, however much is sent; what is answered with unavailable is not done, all else is."""
    daemon = start({**FAST, "server.hang_time": "5m", "limits.message_size": "1M", "limits.send_buffer": "64M"}, workers=1)
    await daemon.register("d1")
    users = [await daemon.user() for _ in range(4)]
    for u in users:
        await u.ask("subscribe", {"devices": []})
    filler = "x" * 900000

    async def send_all(u, k):
        for n in range(k, 40, 4):
            await u.send("command", {"deviceId": "d1", "command": "x", "params": {"n": n, "x": filler}, "queueMs": 600000}, f"n{n}")

    with stopped(daemon.workers()["storage 1"]):
        sends = [asyncio.ensure_future(send_all(u, k)) for k, u in enumerate(users)]
        await eventually(lambda: held(daemon, 4))
        assert await daemon.metric("belay_turns_waiting") <= 8 and await daemon.metric("belay_mailbox_full_total") == 0
        body = {"deviceId": "d1", "command": "x", "params": {"x": filler}, "queueMs": 600000}
        status, body = await daemon.rest("POST", "/api/command", body)
        assert status == 503 and body["error"]["code"] == "unavailable"
    await asyncio.gather(*sends)
    answers = {}
    while len(answers) < 40:
        for u in users:
            assert (await u.ask("ping"))["type"] == "pong"
            answers |= {m["re"]: m for m in u.kept if "re" in m}
    refused = {int(re[1:]) for re, m in answers.items() if m["type"] == "error"}
    assert {m["payload"]["code"] for m in answers.values() if m["type"] == "error"} == {"unavailable"}
    stored, cursor = [], ""
    while cursor is not None:
        status, body = await daemon.rest("GET", f"/api/device/d1/commands?limit=5{cursor}")
        assert status == 200, body
        stored += [c["params"]["n"] for c in body["commands"]]
        cursor = body["nextCursor"] and f"&cursor={body['nextCursor']}"
    assert len(stored) == len(set(stored)) and set(stored) == set(range(40)) - refused
    assert (await users[0].ask("command", {"deviceId": "d1", "command": "x", "queueMs": 60000}))["type"] == "command_status"
    for u in users:
        await u.close()


async def test_gateway_stops_for_a_while(start):
    """Its mailbox is small and fills: what it may not lose waits in the sender, and arrives."""
    daemon = start({**FAST, "server.hang_time": "60s", "memory.mailbox": "64K"})
    devices = await spread(daemon)
    (device, gateway), (other, _) = devices.values()
    with stopped(daemon.workers()[gateway]):
        # A user of the other gateway orders for a device of this one: 200 commands of 1 KB are beyond 64 KB.
        user = await daemon.user()
        await user.ask("subscribe", {"devices": []})
        ids = []
        for n in range(200):
            m = await user.ask("command", {"deviceId": "s0", "command": "x", "params": {"n": n, "x": "y" * 1000}, "timeoutMs": 60000})
            assert m["type"] == "command_status" and m["payload"]["status"] == "sent", m
            ids.append(m["payload"]["commandId"])
            user.kept.clear()
        assert (await other.ask("heartbeat"))["type"] == "heartbeat_ack"
    got = [(await device.expect("command"))["payload"]["commandId"] for _ in range(200)]
    assert got == ids
    assert await daemon.metric("belay_mailbox_full_total") > 0
    drop(*(d for d, _ in devices.values()), user)


# --- descriptors


async def test_descriptors_run_out(start):
    """No more connections can be taken: those that are there live on, and new ones are served when some have gone."""
    daemon = start({**FAST, "limits.handshake_time": "2s"})
    bdt = await daemon.register("d1")
    device, user = await daemon.device("d1", bdt), await daemon.user()
    done = await run_device(device)
    gateways = daemon.workers("gateway")
    for pid in gateways.values():
        used = descriptors(pid)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 8, used + 8))
    crowd = []
    for _ in range(60):
        crowd.append(await asyncio.open_connection("127.0.0.1", daemon.port))
    for n in range(20):
        m = await user.ask("command", {"deviceId": "d1", "command": "x"})
        assert m["type"] == "command_status"
    await eventually(lambda: len(done) == 20)
    cpu = {p: cpu_seconds(p) for p in gateways.values()}
    await asyncio.sleep(0.5)
    for p in gateways.values():
        assert cpu_seconds(p) - cpu[p] < 0.3, "it turns in circles"
    for _, writer in crowd:
        writer.close()
    fresh = await asyncio.wait_for(eventually_open(daemon), PATIENCE)
    assert (await fresh.ask("ping"))["type"] == "pong"
    assert not device.ws.closed and not user.ws.closed
    assert daemon.workers("gateway") == gateways
    await user.close()


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def eventually_open(daemon):
    while True:
        try:
            return await daemon.user("late")
        except (OSError, Refused, websockets.WebSocketException, asyncio.TimeoutError):
            await asyncio.sleep(0.1)
