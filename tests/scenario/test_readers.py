"""Readers answer what only reads: each once, whoever of them is killed; all tenants and users in turn; no more than may wait.

A reader is stopped to line requests up before it, and goes on when all of them are there.
"""

import asyncio
import os
import signal
import sqlite3
import time
from pathlib import Path

from belay import PATIENCE, eventually, token
from fleet import SANITIZED, kill, stopped

# Stopped processes are not to be taken for hung.
CALM = {"limits.message_rate": 100000, "limits.message_burst": 100000, "limits.requests_per_user": 0, "server.hang_time": "10m",
        "store.readers": 1}
# Devices; a step looks at no more than a thousand.  All that is asked has to be read in the 30 s after which nobody waits any more.
ROWS = 4000 if SANITIZED else 20000
LONG = "/api/device?q=none-has-this"		# looks at all of them and shows none


def reader(daemon, nth=1):
    return daemon.workers("reader")[f"reader {nth}"]


def freeze(pid):
    """SIGSTOP, in force."""
    os.kill(pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        time.sleep(0.001)


def drop(*clients):
    for c in clients:
        c.ws.transport.abort()


def many_like(daemon, device, n=ROWS):
    """Devices like one that there is, as if they had been registered."""
    db = sqlite3.connect(daemon.folder / "belay.db", timeout=PATIENCE)
    columns = [name for _, name, _, _, _, key in db.execute("PRAGMA table_info(devices)") if not key]
    values = [{"device_id": "printf('%s-%06d', device_id, i)", "token_hash": "NULL"}.get(name, name) for name in columns]
    with db:
        db.execute(f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                   f"INSERT INTO devices ({', '.join(columns)}) SELECT {', '.join(values)} FROM n, devices WHERE device_id = ?",
                   (n, device))
    db.close()


class Requests:
    """Requests that are under way; `done` is in the order in which they were answered."""

    def __init__(self, daemon):
        self.daemon, self.tasks, self.done = daemon, {}, []

    def ask(self, name, path, method="GET", body=None, bearer=None):
        async def go():
            status, headers, text = await self.daemon.rest(method, path, body, bearer, raw=True)
            self.done.append(name)
            return status, headers, text
        assert name not in self.tasks
        self.tasks[name] = asyncio.ensure_future(go())

    async def all(self):
        """{name: status}"""
        answers = await asyncio.gather(*self.tasks.values())
        return {name: answer[0] for name, answer in zip(self.tasks, answers)}


async def asked(daemon, n):
    """Until so many requests were handed to readers in all."""
    async def enough():
        return await daemon.metric("belay_reads_asked_total") >= n
    await eventually(enough)
    assert await daemon.metric("belay_reads_asked_total") == n


# --- a reader that is killed


async def test_killed_before_it_looks(start):
    """What lies in its mailbox is answered by the successor: once, and in the order in which each user asked."""
    daemon = start(CALM)
    await daemon.register("d")
    viewer = await daemon.user()
    base = int(await daemon.metric("belay_reads_asked_total"))
    requests = Requests(daemon)
    freeze(reader(daemon))
    for n in range(10):
        await viewer.send("subscribe" if n % 2 == 0 else "unsubscribe", {"devices": ["d"]}, f"s{n}")
    for n, path in enumerate(("/api/device", "/api/device/d", "/api/device/stats", "/api/device/d/events", "/api/events",
                              "/api/device/d/share", "/api/device/d/commands", "/api/visitor")):
        requests.ask(f"get {n}", path)
    for n in range(12):
        requests.ask(f"post {n}", "/api/telemetry", "POST", {"deviceId": "d", "data": {"n": n}})
    await asked(daemon, base + 30)
    await kill(daemon, "reader 1", PATIENCE)
    statuses = await requests.all()
    assert set(statuses.values()) == {200, 202}, statuses
    order = []
    while len(order) < 10:
        m = await viewer.recv()
        if "re" in m:
            order.append((m["re"], m["type"]))
    assert order == [(f"s{n}", "ok") for n in range(10)]
    assert await daemon.metric("belay_reads_asked_again_total") == 30
    # Whoever is answered twice is read for twice: behind these there is nothing left.
    assert (await daemon.rest("GET", "/api/device/d"))[0] == 200
    assert await daemon.metric("belay_telemetry_received_total") == 12
    await viewer.nothing("ok")
    drop(viewer)


async def test_killed_at_work(start):
    """What it had taken and not answered is answered by the successor, and so is what comes while there is none."""
    daemon = start(CALM)
    await daemon.register("d")
    many_like(daemon, "d")
    viewer = await daemon.user("u2")
    requests = Requests(daemon)
    for n in range(20):
        requests.ask(f"long {n}", LONG)

    async def at_work():
        return await daemon.metric("belay_reads_waiting") >= 10
    await eventually(at_work)
    os.kill(reader(daemon), signal.SIGKILL)
    requests.ask("get", "/api/device/d")
    requests.ask("post", "/api/telemetry", "POST", {"deviceId": "d", "data": {"n": 1}})
    assert (await viewer.ask("subscribe", {"devices": []}))["type"] == "ok"
    statuses = await requests.all()
    assert statuses == {**{f"long {n}": 200 for n in range(20)}, "get": 200, "post": 202}
    assert await daemon.metric("belay_reads_asked_again_total") >= 10
    assert await daemon.metric("belay_telemetry_received_total") == 1
    assert await daemon.metric("belay_store_questions_timed_out_total") == 0
    drop(viewer)


# --- turns


async def test_turns(start):
    """One user's long lists do not keep another tenant waiting, nor another user of the same tenant."""
    daemon = start(CALM)
    await daemon.register("d")
    await daemon.register("other", token("u2"))
    many_like(daemon, "d")
    await daemon.register("d", token("u1", "t2"))
    base = int(await daemon.metric("belay_reads_asked_total"))
    requests = Requests(daemon)
    with stopped(reader(daemon)):
        for n in range(24):
            requests.ask(n, LONG)
        await asked(daemon, base + 24)
        requests.ask("tenant", "/api/device/d", bearer=token("u1", "t2"))
        requests.ask("user", "/api/device/other", bearer=token("u2"))
        await asked(daemon, base + 26)
        steps = await daemon.metric("belay_read_steps_total")
    assert set((await requests.all()).values()) == {200}
    assert await daemon.metric("belay_read_steps_total") - steps >= 24 * ROWS / 1000
    assert max(requests.done.index("tenant"), requests.done.index("user")) < 12, requests.done


async def test_many_devices_of_others(start):
    """A list of devices that are shared comes to its end: what has to be put in order in each step does not use up its time."""
    daemon = start(CALM)
    await daemon.register("d")
    assert (await daemon.rest("POST", "/api/device/d/share", {"userId": "u2", "permission": "view"}))[0] in (200, 201)
    many_like(daemon, "d")
    db = sqlite3.connect(daemon.folder / "belay.db", timeout=PATIENCE)
    columns = [name for _, name, *_ in db.execute("PRAGMA table_info(shares)") if name != "device_pk"]
    with db:
        db.execute(f"INSERT INTO shares (device_pk, {', '.join(columns)}) SELECT d.device_pk, {', '.join('s.' + c for c in columns)} "
                   "FROM shares s, devices d WHERE d.device_id <> 'd'")
    db.close()
    steps = await daemon.metric("belay_read_steps_total")
    status, body = await daemon.rest("GET", LONG, bearer=token("u2"))
    assert status == 200 and body == {"devices": [], "nextCursor": None}
    status, body = await daemon.rest("GET", "/api/device/stats", bearer=token("u2"))
    assert status == 200 and body["total"] == ROWS + 1
    assert await daemon.metric("belay_read_steps_total") - steps < ROWS / 50


# --- bounds


async def test_bounds(start):
    """More than may wait of a user or tenant is refused, and what was taken in is answered."""
    daemon = start({**CALM, "limits.reads_per_user": 32, "limits.reads_per_tenant": 40}, workers=1)
    await daemon.register("d")
    await daemon.register("d", token("u1", "t2"))
    viewer = await daemon.user()
    base = int(await daemon.metric("belay_reads_asked_total"))
    requests = Requests(daemon)
    with stopped(reader(daemon)):
        for n in range(32):
            requests.ask(n, "/api/device/d")
        await asked(daemon, base + 32)
        status, headers, body = await daemon.rest("GET", "/api/device/d", raw=True)
        assert status == 429 and int(headers["Retry-After"]) >= 1 and b"too_many" in body, body
        m = await viewer.ask("subscribe", {"devices": ["d"]})
        assert m["type"] == "error" and m["payload"]["code"] == "too_many" and m["payload"]["retryAfterMs"] > 0, m
        for n in range(8):
            requests.ask(f"other {n}", "/api/device", bearer=token("u2"))
        await asked(daemon, base + 40)
        status, headers, body = await daemon.rest("GET", "/api/device", bearer=token("u3"), raw=True)
        assert status == 429 and int(headers["Retry-After"]) >= 1 and b"too_many" in body, body
        requests.ask("tenant", "/api/device/d", bearer=token("u1", "t2"))
        await asked(daemon, base + 41)
        assert await daemon.metric("belay_reads_refused_total") == 3
        assert requests.done == []
    assert set((await requests.all()).values()) == {200}
    assert (await viewer.ask("subscribe", {"devices": ["d"]}))["type"] == "ok"
    assert await daemon.metric("belay_reads_refused_total") == 3
    drop(viewer)


async def test_full_mailbox(start):
    """What finds no room before a reader is answered at once, and leaves nothing behind."""
    daemon = start({**CALM, "limits.reads_per_user": 1000}, workers=1)
    await daemon.register("d")
    requests = Requests(daemon)
    with stopped(reader(daemon)):
        for n in range(100):		# 6 MB, and its mailbox has four
            requests.ask(n, "/api/telemetry", "POST", {"deviceId": "d", "data": {"x": "y" * 60000}})
        await eventually(lambda: len(requests.done) > 10)
    statuses = list((await requests.all()).values())
    assert set(statuses) == {202, 503}, statuses
    assert await daemon.metric("belay_telemetry_received_total") == statuses.count(202)
    for n in range(40):
        assert (await daemon.rest("GET", "/api/device/d"))[0] == 200
    assert await daemon.metric("belay_reads_refused_total") == 0


async def test_gone(start):
    """Who leaves is not read for, and makes room for others at once."""
    daemon = start({**CALM, "limits.reads_per_tenant": 32}, workers=1)
    await daemon.register("d")
    base = int(await daemon.metric("belay_reads_asked_total"))
    dropped = await daemon.metric("belay_reads_dropped_total")
    head = f"GET /api/device/d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\n\r\n".encode()
    requests = Requests(daemon)
    with stopped(reader(daemon)):
        for _ in range(32):
            _, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
            writer.write(head)
            await writer.drain()
            requests.tasks[writer] = None
        await asked(daemon, base + 32)
        assert (await daemon.rest("GET", "/api/device/d"))[0] == 429
        for writer in requests.tasks:
            writer.close()
        requests.tasks.clear()

        async def room():
            """Is one taken in that was refused before?  It is not answered yet."""
            n = len(requests.tasks)
            requests.ask(n, "/api/device", bearer=token("u2"))
            await eventually(lambda: waits(n))
            return n not in requests.done

        async def waits(n):
            return n in requests.done or await daemon.metric("belay_reads_asked_total") == base + 33
        await eventually(room)
        assert await daemon.metric("belay_store_questions_timed_out_total") == 0
    statuses = list((await requests.all()).values())
    assert statuses[-1] == 200 and set(statuses[:-1]) <= {429}, statuses

    async def left_out():
        return await daemon.metric("belay_reads_dropped_total") == dropped + 32
    await eventually(left_out)


# --- what was written is seen


async def test_a_read_sees_the_write_before_it(start):
    daemon = start({**CALM, "store.readers": 2}, workers=2)

    async def life(n):
        me, friend, path = token(f"w{n % 10}"), token(f"f{n % 10}"), f"/api/device/w{n}"
        await daemon.register(f"w{n}", me)
        status, body = await daemon.rest("GET", path, bearer=me)
        assert status == 200 and body["device"]["name"] == f"w{n}", (n, status, body)
        assert (await daemon.rest("GET", path, bearer=friend))[0] == 403
        status, body = await daemon.rest("PUT", path, {"name": f"new {n}"}, me)
        assert status == 200, body
        status, body = await daemon.rest("GET", path, bearer=me)
        assert status == 200 and body["device"]["name"] == f"new {n}", (n, status, body)
        status, body = await daemon.rest("POST", f"{path}/share", {"userId": f"f{n % 10}", "permission": "view"}, me)
        assert status in (200, 201), body
        status, body = await daemon.rest("GET", path, bearer=friend)
        assert status == 200, (n, body)
        assert (await daemon.rest("DELETE", path, bearer=me))[0] == 204
        assert (await daemon.rest("GET", path, bearer=me))[0] == 404, n
        assert (await daemon.rest("GET", path, bearer=friend))[0] == 404, n

    for first in range(0, 200, 8):
        await asyncio.gather(*(life(n) for n in range(first, first + 8)))


# --- a reader that hangs


async def test_stopped_reader(start):
    """Who needs no reader does not notice.  After a time it is taken for hung, and its successor answers."""
    daemon = start({**CALM, "server.hang_time": "6s"})
    bdt = await daemon.register("d")
    user = await daemon.user()
    base = int(await daemon.metric("belay_reads_asked_total"))
    requests = Requests(daemon)
    pid = reader(daemon)
    freeze(pid)
    for n in range(5):
        requests.ask(n, "/api/device/d")
    await asked(daemon, base + 5)
    device = await daemon.device("d", bdt)
    for n in range(5):
        m = await user.ask("command", {"deviceId": "d", "command": "x", "params": {"n": n}})
        assert m["type"] == "command_status" and m["payload"]["status"] == "sent", m
        m = await device.expect("command")
        m = await device.ask("command_ack", {"commandId": m["payload"]["commandId"], "status": "executed"})
        assert m["type"] == "ok", m
        await user.expect("command_status", where=lambda m: m["payload"]["status"] == "executed")
    assert (await daemon.rest("GET", "/health/ready", bearer=""))[0] == 200
    assert set((await requests.all()).values()) == {200}
    assert reader(daemon) != pid
    assert await daemon.metric("belay_reads_asked_again_total") == 5
    drop(user, device)


async def test_another_file_in_its_place(start):
    """A store that was put back while storage was down is what its readers read, too."""
    daemon = start(CALM)
    await daemon.register("d")
    place = daemon.folder / "belay.db"
    freeze(daemon.workers()["storage 1"])
    now, copy = sqlite3.connect(place), sqlite3.connect(daemon.folder / "copy")
    now.backup(copy)
    now.close()
    copy.execute("UPDATE devices SET name = 'put back'")
    copy.commit()
    copy.close()
    for end in ("-wal", "-shm"):
        Path(f"{place}{end}").unlink()
    os.replace(daemon.folder / "copy", place)
    await kill(daemon, "storage 1", PATIENCE)

    async def put_back():
        status, body = await daemon.rest("GET", "/api/device/d")
        return status == 200 and body["device"]["name"] == "put back"
    await eventually(put_back)
    assert (await daemon.rest("PUT", "/api/device/d", {"name": "new"}))[0] == 200
    assert (await daemon.rest("GET", "/api/device/d"))[1]["device"]["name"] == "new"


async def test_a_row_that_cannot_be_read(start):
    """A list that fails in the middle is answered; others are read as before, and it is when the row is good again."""
    daemon = start(CALM)
    await daemon.register("d")
    many_like(daemon, "d")
    db = sqlite3.connect(daemon.folder / "belay.db", timeout=PATIENCE, isolation_level=None)
    db.execute("UPDATE devices SET tags_json = '[' WHERE device_id = (SELECT max(device_id) FROM devices)")
    steps, errors = [await daemon.metric(f"belay_{name}_total") for name in ("read_steps", "store_errors")]
    status, headers, body = await daemon.rest("GET", "/api/device?tag=none", raw=True)
    assert status == 503 and int(headers["Retry-After"]) >= 1 and b"unavailable" in body, body
    assert await daemon.metric("belay_read_steps_total") - steps >= ROWS / 1000
    assert await daemon.metric("belay_store_errors_total") == errors + 1
    status, body = await daemon.rest("GET", "/api/device?limit=500")
    assert status == 200 and len(body["devices"]) == 500
    db.execute("UPDATE devices SET tags_json = '[]' WHERE tags_json = '['")
    db.close()
    status, body = await daemon.rest("GET", "/api/device?tag=none")
    assert status == 200 and body["devices"] == [], body


# --- the writer's log


async def test_the_log_of_the_writer_is_bounded(start):
    """Long lists without a pause, of several users by several readers, do not keep the log from beginning anew."""
    daemon = start({**CALM, "store.readers": 3, "store.event_retention": "3650d"})
    bdt = await daemon.register("d")
    many_like(daemon, "d")
    device = await daemon.device("d", bdt)
    answered, longest, over = [], 0, False

    async def reads(n):
        while not over:
            status, _ = await daemon.rest("GET", LONG, bearer=token(f"a{n}", role="admin"))
            assert status == 200
            answered.append(n)
    users = [asyncio.ensure_future(reads(n)) for n in range(12)]
    for n in range(1200):
        m = await device.ask("event", {"event": "x_large", "data": {"n": n, "x": "y" * 60000}})
        assert m["type"] == "ok", m
        if n % 10 == 0:
            longest = max(longest, await daemon.metric("belay_store_log_bytes"))
    pauses, before = await daemon.metric("belay_read_pauses_total"), len(answered)
    over = True
    await asyncio.gather(*users)
    assert longest < 48 << 20, longest
    assert pauses > 0
    assert before >= 12 and len(answered) >= before, "readers did not go on"
    drop(device)


async def test_a_log_that_stays_long(start):
    """A log that is long because somebody else reads the file is no reason to wait when nothing is written."""
    daemon = start(CALM)
    bdt = await daemon.register("d")
    device = await daemon.device("d", bdt)
    backup = sqlite3.connect(daemon.folder / "belay.db", isolation_level=None)
    backup.execute("BEGIN")
    backup.execute("SELECT count(*) FROM devices").fetchone()
    n = 0
    while await daemon.metric("belay_store_log_bytes") < 17 << 20:
        m = await device.ask("event", {"event": "x_large", "data": {"n": n, "x": "y" * 60000}})
        assert m["type"] == "ok", m
        n += 1
    commits, pauses = [await daemon.metric(f"belay_{name}_total") for name in ("store_commits", "read_pauses")]
    for _ in range(20):
        assert (await daemon.rest("GET", "/api/device/d"))[0] == 200
    pauses = await daemon.metric("belay_read_pauses_total") - pauses
    assert pauses <= 1 + await daemon.metric("belay_store_commits_total") - commits, pauses
    backup.close()
    drop(device)


# --- several readers


async def test_users_are_spread(start):
    """Each of three readers has users, and none of them waits for another's."""
    daemon = start({**CALM, "store.readers": 3}, workers=1)
    base = int(await daemon.metric("belay_reads_asked_total"))
    requests = Requests(daemon)

    async def steps():
        return await daemon.metric("belay_read_steps_total")
    with stopped(*(reader(daemon, n) for n in (1, 2, 3))):
        first = before = await steps()
        for n in range(60):
            requests.ask(n, "/api/device", bearer=token(f"s{n}"))
        await asked(daemon, base + 60)
        for n in (1, 2, 3):
            os.kill(reader(daemon, n), signal.SIGCONT)

            async def works():
                return await steps() > before
            await eventually(works)
            freeze(reader(daemon, n))
            before = await steps()
            await eventually(lambda: len(requests.done) >= before - first)
    assert set((await requests.all()).values()) == {200}
    assert await steps() - first == 60
