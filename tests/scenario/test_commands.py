"""Every way that a command can go (protocol section 5), over real sockets, asked for from several gateways at once."""

import asyncio
import datetime
import secrets
import sqlite3
import time
import uuid

import pytest

import belay
from belay import PATIENCE, Stopwatch, eventually, run_device, token
from conftest import check_log


@pytest.fixture(scope="module")
def belayd(tmp_path_factory):
    """One for the file, of three gateways, without rate limits: these tests are of commands."""
    daemon = belay.Belayd(tmp_path_factory.mktemp("commands"), {
        "limits.message_rate": 100000, "limits.message_burst": 100000, "limits.requests_per_user": 0}, workers=3).start()
    yield daemon
    assert daemon.stop() == 0, daemon.log_text()[-4000:]
    check_log(daemon)


names = (f"cmd-{n}" for n in range(1, 10000))


def ms(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000


def steps(command):
    return [t["step"] for t in command["trace"]]


def error_of(m):
    assert m["type"] == "error", m
    return m["payload"]["code"]


class Lock:
    """A registered device and its connection, if it has one."""

    def __init__(self, belayd, name, bdt):
        self.belayd, self.name, self.token, self.client = belayd, name, bdt, None

    async def connect(self):
        self.client = await self.belayd.device(self.name, self.token)
        return self.client

    async def leave(self):
        await self.client.close()
        await eventually(self.offline)

    async def offline(self):
        _, body = await self.belayd.rest("GET", f"/api/device/{self.name}")
        return body["device"]["presence"]["status"] == "offline"

    async def ack(self, id, status, **more):
        return await self.client.ask("command_ack", {"commandId": id, "status": status, **more})

    async def post(self, command="unlock_door", bearer=None, query="", headers=None, **more):
        status, body = await self.belayd.rest("POST", f"/api/command{query}", {"deviceId": self.name, "command": command, **more},
                                              bearer, headers)
        return status, body

    async def order(self, **more):
        """A command that is stored: its object."""
        status, body = await self.post(**more)
        assert status == 202, body
        return body["command"]

    async def get(self, id, bearer=None):
        status, body = await self.belayd.rest("GET", f"/api/command/{id}", bearer=bearer)
        assert status == 200, body
        return body["command"]

    async def ends(self, id):
        async def final():
            c = await self.get(id)
            return c if c["finishedAt"] else None
        return await eventually(final)

    async def events(self):
        """How often each command event is in the log, by command: {(commandId, event): n}."""
        out, cursor = {}, ""
        while True:
            status, body = await self.belayd.rest("GET", f"/api/device/{self.name}/events?limit=500{cursor}")
            assert status == 200
            for e in body["events"]:
                if e["event"].startswith("command_"):
                    key = (e["data"]["commandId"], e["event"])
                    out[key] = out.get(key, 0) + 1
            if body["nextCursor"] is None:
                return out
            cursor = f"&cursor={body['nextCursor']}"


@pytest.fixture
async def lock(belayd):
    name = next(names)
    it = Lock(belayd, name, await belayd.register(name))
    yield it
    if it.client is not None:
        await it.client.close()
    # Otherwise commands that were left open would time out in the midst of later tests, and their owner, who is the same, be told.
    await belayd.rest("DELETE", f"/api/device/{name}")


# --- the states


@pytest.mark.parametrize("end", ["executed", "failed"])
@pytest.mark.parametrize("accepts", [True, False])
async def test_from_queued_to_the_end(lock, end, accepts):
    c = await lock.order(queueMs=60000, timeoutMs=20000, params={"a": [1, {"b": None}]})
    assert c["status"] == "queued" and c["outcome"] == "not_sent" and c["safeToRetry"] and c["sentAt"] is None
    assert c["attempt"] == 0 or c["attempt"] == 1
    assert steps(c) == ["stored"]
    device = await lock.connect()
    m = (await device.expect("command"))["payload"]
    assert m["commandId"] == c["commandId"] and m["attempt"] == 1 and m["params"] == {"a": [1, {"b": None}]}
    assert m["issuedAt"] == c["createdAt"]
    c = await lock.get(m["commandId"])
    assert c["status"] == "sent" and c["outcome"] == "unconfirmed" and not c["safeToRetry"] and c["attempt"] == 1
    assert abs(ms(m["expiresAt"]) - ms(c["sentAt"]) - 20000) <= 1
    if accepts:
        assert (await lock.ack(m["commandId"], "accepted"))["type"] == "ok"
        c = await lock.get(m["commandId"])
        assert c["status"] == "accepted" and c["acceptedAt"] and c["finishedAt"] is None
    more = {"result": {"opened": True}} if end == "executed" else {"error": "jammed"}
    assert (await lock.ack(m["commandId"], end, **more))["type"] == "ok"
    c = await lock.get(m["commandId"])
    assert c["status"] == end and c["outcome"] == "confirmed" and not c["safeToRetry"] and not c["late"] and c["finishedAt"]
    assert (c["acceptedAt"] is not None) == accepts
    assert steps(c) == ["stored", "sent"] + ["accepted"] * accepts + [end]
    sent = c["trace"][1]
    assert sent["instance"] == "belay-test" and sent["worker"] in (1, 2, 3) and sent["epoch"] == device.connected["payload"]["epoch"]
    times = [ms(t["at"]) for t in c["trace"]]
    assert times == sorted(times) and ms(c["createdAt"]) <= ms(c["sentAt"]) <= ms(c["finishedAt"])
    if end == "executed":
        assert c["result"] == {"opened": True} and c["error"] is None
    else:
        assert c["error"] == {"code": "device_error", "message": "jammed"}
    assert await lock.events() == {(c["commandId"], "command_sent"): 1, (c["commandId"], f"command_{end}"): 1}


@pytest.mark.parametrize("given, stored", [
    ({"code": "E7", "message": "no power"}, {"code": "E7", "message": "no power"}),
    ("text \u00e9 \"quoted\"", {"code": "device_error", "message": "text \u00e9 \"quoted\""}),
    (None, None),
])
async def test_errors_of_devices(lock, given, stored):
    await lock.connect()
    c = await lock.order()
    more = {} if given is None else {"error": given}
    assert (await lock.ack(c["commandId"], "failed", **more))["type"] == "ok"
    c = await lock.get(c["commandId"])
    assert c["status"] == "failed" and c["error"] == stored


@pytest.mark.parametrize("result", [None, 0, "x", [], {"a": {"b": [1, 2.5, "\u00e9"]}}, False])
async def test_results_are_passed_on(lock, result):
    await lock.connect()
    c = await lock.order()
    await lock.ack(c["commandId"], "executed", result=result)
    assert (await lock.get(c["commandId"]))["result"] == result


@pytest.mark.parametrize("end", ["executed", "failed"])
async def test_timeout_and_late_result(lock, end):
    await lock.connect()
    viewer = await lock.belayd.user()
    watch = Stopwatch(lock.belayd)
    c = await lock.order(timeoutMs=1000)
    m = await viewer.expect("command_status", where=lambda m: m["payload"]["status"] == "timeout")
    elapsed, needed = watch.stop()
    assert 0.9 <= elapsed and needed < 2.0
    c = m["payload"]
    assert c["outcome"] == "unconfirmed" and not c["safeToRetry"] and not c["late"] and c["finishedAt"]
    assert c == await lock.get(c["commandId"])
    assert error_of(await lock.ack(c["commandId"], "accepted")) == "already_final"
    assert (await lock.ack(c["commandId"], end))["type"] == "ok"
    m = await viewer.expect("command_status", where=lambda m: m["payload"]["status"] == end)
    assert m["payload"]["late"] and m["payload"]["outcome"] == "confirmed"
    c = await lock.get(c["commandId"])
    assert c == m["payload"] and steps(c) == ["stored", "sent", "timeout", end]
    assert error_of(await lock.ack(c["commandId"], "executed")) == "already_final"
    assert await lock.events() == {(c["commandId"], e): 1 for e in ("command_sent", "command_timeout", f"command_{end}")}
    await viewer.close()


async def test_timeout_runs_from_sending(lock):
    c = await lock.order(timeoutMs=1000, queueMs=60000)
    await asyncio.sleep(1.3)			# longer than its timeout, in the queue
    assert (await lock.get(c["commandId"]))["status"] == "queued"
    await lock.connect()
    began = time.monotonic()
    await lock.client.expect("command")
    c = await lock.ends(c["commandId"])
    assert c["status"] == "timeout" and time.monotonic() - began > 0.9
    assert 900 <= ms(c["finishedAt"]) - ms(c["sentAt"]) <= 1500


async def test_accepting_does_not_stop_the_clock(lock):
    await lock.connect()
    c = await lock.order(timeoutMs=1000)
    await lock.ack(c["commandId"], "accepted")
    c = await lock.ends(c["commandId"])
    assert c["status"] == "timeout" and c["acceptedAt"] and steps(c) == ["stored", "sent", "accepted", "timeout"]


async def test_expired(lock):
    viewer = await lock.belayd.user()
    c = await lock.order(queueMs=500)
    m = await viewer.expect("command_status", where=lambda m: m["payload"]["status"] == "expired")
    c = m["payload"]
    assert c["outcome"] == "not_sent" and c["safeToRetry"] and c["finishedAt"] and c["sentAt"] is None
    assert steps(c) == ["stored", "expired"]
    assert m["cursor"]
    device = await lock.connect()
    await device.nothing("command", 0.1)
    await device.nothing("reconcile", 0)
    assert error_of(await lock.ack(c["commandId"], "executed")) == "already_final"
    assert await lock.events() == {(c["commandId"], "command_expired"): 1}
    await viewer.close()


async def test_cancelled(lock):
    c = await lock.order(queueMs=60000)
    status, body = await lock.belayd.rest("DELETE", f"/api/command/{c['commandId']}")
    assert status == 200 and body["command"]["status"] == "cancelled" and body["command"]["outcome"] == "not_sent"
    assert body["command"]["safeToRetry"] and steps(body["command"]) == ["stored", "cancelled"]
    for _ in range(2):
        status, body = await lock.belayd.rest("DELETE", f"/api/command/{c['commandId']}")
        assert status == 409 and body["error"]["code"] == "conflict"
    user = await lock.belayd.user()
    c2 = await lock.order(queueMs=60000)
    await user.expect("command_status")
    m = await user.ask("cancel", {"commandId": c2["commandId"]})
    assert m["type"] == "command_status" and m["payload"]["status"] == "cancelled"
    assert error_of(await user.ask("cancel", {"commandId": c2["commandId"]})) == "conflict"
    device = await lock.connect()
    await device.nothing("command", 0.1)
    c3 = await lock.order()
    status, body = await lock.belayd.rest("DELETE", f"/api/command/{c3['commandId']}")
    assert status == 409
    await lock.ack(c3["commandId"], "executed")
    assert error_of(await user.ask("cancel", {"commandId": c3["commandId"]})) == "conflict"
    assert error_of(await user.ask("cancel", {"commandId": str(uuid.uuid4())})) == "not_found"
    assert await lock.events() == {(c["commandId"], "command_cancelled"): 1, (c2["commandId"], "command_cancelled"): 1,
                                   (c3["commandId"], "command_sent"): 1, (c3["commandId"], "command_executed"): 1}
    await user.close()


async def test_offline_without_queue(lock):
    status, body = await lock.post()
    assert status == 409 and body["error"]["code"] == "device_offline"
    user = await lock.belayd.user()
    assert error_of(await user.ask("command", {"deviceId": lock.name, "command": "x"})) == "device_offline"
    await user.close()
    status, body = await lock.belayd.rest("GET", f"/api/device/{lock.name}/commands")
    assert status == 200 and body == {"commands": [], "nextCursor": None}
    assert await lock.events() == {}


async def test_queue_of_a_connected_device_is_not_waited_in(lock):
    device = await lock.connect()
    c = await lock.order(queueMs=60000)
    assert c["status"] == "sent"
    assert (await device.expect("command"))["payload"]["commandId"] == c["commandId"]


# --- onlyIf


@pytest.mark.parametrize("condition, met", [
    ({"status.door": "closed"}, True),
    ({"status.door": "open"}, False),
    ({"status.n.deep": 3}, True),
    ({"status.n.deep": 3.0}, True),
    ({"status.n": {"deep": 3, "list": [1, 2]}}, True),
    ({"status.n": {"deep": 3}}, False),
    ({"status.missing": None}, False),
    ({"status.nothing": None}, True),
    ({"seenWithinMs": 60000}, True),
    ({"seenWithinMs": 60000, "status.door": "closed"}, True),
    ({"seenWithinMs": 60000, "status.door": "ajar"}, False),
    ({}, True),
])
async def test_only_if(lock, condition, met):
    device = await lock.connect()
    assert (await device.ask("status", {"door": "closed", "n": {"deep": 3, "list": [1, 2]}, "nothing": None}))["type"] == "ok"
    c = await lock.order(onlyIf=condition)
    if met:
        assert c["status"] == "sent"
        assert (await device.expect("command"))["payload"]["commandId"] == c["commandId"]
    else:
        assert c["status"] == "failed" and c["error"]["code"] == "precondition" and c["error"]["message"]
        assert c["outcome"] == "not_sent" and c["safeToRetry"] and c["finishedAt"]
        await device.nothing("command", 0)
        assert await lock.events() == {(c["commandId"], "command_failed"): 1}


async def test_only_if_is_judged_at_sending(lock):
    device = await lock.connect()
    await device.ask("status", {"door": "open"})
    await lock.leave()
    a = await lock.order(queueMs=60000, onlyIf={"status.door": "open"})
    b = await lock.order(queueMs=60000, onlyIf={"status.door": "closed"})
    c = await lock.order(queueMs=60000)
    assert a["status"] == b["status"] == "queued"
    device = await lock.connect()
    got = [(await device.expect("command"))["payload"]["commandId"] for _ in range(2)]
    assert got == [a["commandId"], c["commandId"]]
    b = await lock.get(b["commandId"])
    assert b["status"] == "failed" and b["error"]["code"] == "precondition" and b["outcome"] == "not_sent"


async def test_only_if_seen_within(lock):
    device = await lock.connect()
    await device.ask("heartbeat")
    assert (await lock.order(onlyIf={"seenWithinMs": 5000}))["status"] == "sent"
    await asyncio.sleep(0.35)
    c = await lock.order(onlyIf={"seenWithinMs": 300})
    assert c["status"] == "failed" and c["error"]["code"] == "precondition"

    async def seen():
        await device.ask("heartbeat")
        return (await lock.order(onlyIf={"seenWithinMs": 300}))["status"] == "sent"
    await eventually(seen)


# --- idempotency


async def test_idempotency(lock):
    await lock.connect()
    done = await run_device(lock.client)
    user = await lock.belayd.user()
    key = secrets.token_hex(8)
    first = await lock.order(params={"a": 1, "b": 2}, headers={"Idempotency-Key": key})
    # By header, by field, in another order, over WebSocket, from other connections: always the first.
    again = await lock.order(params={"b": 2, "a": 1}, headers={"Idempotency-Key": key})
    assert again["commandId"] == first["commandId"]
    assert (await lock.order(params={"a": 1, "b": 2}, idempotencyKey=key))["commandId"] == first["commandId"]
    m = await user.ask("command", {"deviceId": lock.name, "command": "unlock_door", "params": {"a": 1, "b": 2}, "idempotencyKey": key})
    assert m["type"] == "command_status" and m["payload"]["commandId"] == first["commandId"]
    # Other parameters, of any kind, are a conflict.
    for other in ({"params": {"a": 2, "b": 2}}, {"command": "ring", "params": {"a": 1, "b": 2}}, {"params": {"a": 1, "b": 2}, "timeoutMs": 5000},
                  {"params": {"a": 1, "b": 2}, "queueMs": 5}, {"params": {"a": 1, "b": 2}, "onlyIf": {"seenWithinMs": 1}}):
        status, body = await lock.post(headers={"Idempotency-Key": key}, **other)
        assert status == 409 and body["error"]["code"] == "conflict", (other, body)
    m = await user.ask("command", {"deviceId": lock.name, "command": "unlock_door", "idempotencyKey": key})
    assert error_of(m) == "conflict"
    # Another requester's key is another key.
    admin = token("boss", role="admin")
    assert (await lock.order(bearer=admin, params={"x": 1}, idempotencyKey=key))["commandId"] != first["commandId"]
    # Without a key each is its own.
    assert (await lock.order(params={"a": 1, "b": 2}))["commandId"] != first["commandId"]
    await eventually(lambda: len(done) == 3)
    assert len(set(done)) == 3
    # The end does not free the key.
    c = await lock.order(params={"a": 1, "b": 2}, idempotencyKey=key)
    assert c["commandId"] == first["commandId"] and c["status"] == "executed"
    await user.close()


async def test_idempotency_on_another_device(lock, belayd):
    other = Lock(belayd, next(names), None)
    other.token = await belayd.register(other.name)
    key = secrets.token_hex(8)
    await lock.order(queueMs=60000, idempotencyKey=key)
    status, body = await other.post(queueMs=60000, idempotencyKey=key)
    assert status == 409 and body["error"]["code"] == "conflict"


async def test_idempotency_at_once(lock):
    """Many requests with one key at the same moment, through all gateways: one command."""
    await lock.connect()
    done = await run_device(lock.client)
    key = secrets.token_hex(8)
    all = await asyncio.gather(*(lock.order(idempotencyKey=key) for _ in range(24)))
    assert len({c["commandId"] for c in all}) == 1
    await lock.ends(all[0]["commandId"])
    assert done == [all[0]["commandId"]]


async def test_refused_request_does_not_take_the_key(lock):
    key = secrets.token_hex(8)
    status, body = await lock.post(idempotencyKey=key)
    assert status == 409 and body["error"]["code"] == "device_offline"
    await lock.connect()
    assert (await lock.order(idempotencyKey=key))["status"] == "sent"


async def test_waiting_again_with_the_same_key(lock):
    """A client that lost its connection asks again with the same key and waits: it hears the end too."""
    device = await lock.connect()
    key = secrets.token_hex(8)
    first = await lock.order(idempotencyKey=key)
    waits = [asyncio.ensure_future(lock.post(query="?wait=1", idempotencyKey=key)) for _ in range(2)]
    await asyncio.sleep(0.3)
    assert not any(w.done() for w in waits)
    await lock.ack(first["commandId"], "executed", result=5)
    for w in waits:
        status, body = await asyncio.wait_for(w, PATIENCE)
        assert status == 200 and body["command"]["commandId"] == first["commandId"] and body["command"]["result"] == 5
    # It has ended: the answer comes at once.
    status, body = await lock.post(query="?wait=1", idempotencyKey=key)
    assert status == 200 and body["command"]["result"] == 5


# --- order


async def test_order_with_many_controllers(lock):
    """Twelve controllers at once, over WebSocket and REST, on all gateways: the device gets them in the store's order."""
    await lock.connect()
    done = await run_device(lock.client)
    users = [await lock.belayd.user() for _ in range(8)]
    for u in users:
        await u.ask("subscribe", {"devices": []})
    mine = {}

    async def by_socket(n, u):
        mine[n] = []
        for i in range(25):
            m = await u.ask("command", {"deviceId": lock.name, "command": "x", "params": {"n": n, "i": i}}, 20)
            assert m["type"] == "command_status", m
            mine[n].append(m["payload"]["commandId"])

    async def by_rest(n):
        mine[n] = []
        for i in range(10):
            mine[n].append((await lock.order(params={"n": n, "i": i}))["commandId"])

    await asyncio.gather(*(by_socket(n, u) for n, u in enumerate(users)), *(by_rest(n) for n in range(100, 104)))
    await eventually(lambda: len(done) == 240)
    assert len(set(done)) == 240
    for ids in mine.values():
        assert [id for id in done if id in set(ids)] == ids
    stored, cursor = [], ""
    while True:
        status, body = await lock.belayd.rest("GET", f"/api/device/{lock.name}/commands?limit=100{cursor}")
        assert status == 200 and len(body["commands"]) <= 100
        stored += [c["commandId"] for c in body["commands"]]
        if body["nextCursor"] is None:
            break
        cursor = f"&cursor={body['nextCursor']}"
    assert stored[::-1] == done
    for u in users:
        await u.close()


async def test_pipelined_commands_keep_their_order(lock):
    """A controller that does not wait for answers; the first half while the device is away, and it comes in the middle."""
    user = await lock.belayd.user()
    await user.ask("subscribe", {"devices": []})
    for i in range(200):
        await user.send("command", {"deviceId": lock.name, "command": "x", "params": {"i": i}, "queueMs": 60000}, f"c{i}")
        if i == 100:
            await lock.connect()
    ids = [(await user.expect("command_status", where=lambda m: m.get("re") == f"c{i}"))["payload"]["commandId"] for i in range(200)]
    got = []
    for _ in range(200):
        got.append((await lock.client.expect("command"))["payload"])
        await lock.client.send("command_ack", {"commandId": got[-1]["commandId"], "status": "executed"})
    assert [p["params"]["i"] for p in got] == list(range(200))
    assert [p["commandId"] for p in got] == ids
    await user.close()


# --- reconnects


async def test_reconcile(lock):
    """What a device that reconnects says of what it was sent: executed, never got it, never got it and too late."""
    await lock.connect()
    a, b = await lock.order(), await lock.order()
    c = await lock.order(timeoutMs=1000)
    d = await lock.order()
    await lock.ack(d["commandId"], "executed")
    assert (await lock.ends(c["commandId"]))["status"] == "timeout"
    await lock.leave()
    device = await lock.connect()
    m = await device.expect("reconcile")
    assert m["payload"]["commandIds"] == [x["commandId"] for x in (a, b, c)]
    assert (await lock.ack(a["commandId"], "executed", result=1))["type"] == "ok"
    assert (await lock.ack(b["commandId"], "unknown"))["type"] == "ok"
    assert (await lock.ack(c["commandId"], "unknown"))["type"] == "ok"
    again = (await device.expect("command"))["payload"]
    assert again["commandId"] == b["commandId"] and again["attempt"] == 2 and again["command"] == b["command"]
    assert (await lock.ack(b["commandId"], "executed", result=2))["type"] == "ok"
    await device.nothing("command", 0.1)
    a, b, c = [await lock.get(x["commandId"]) for x in (a, b, c)]
    assert a["status"] == "executed" and a["result"] == 1 and a["attempt"] == 1
    assert b["status"] == "executed" and b["result"] == 2 and b["attempt"] == 2 and steps(b).count("sent") == 2
    assert c["status"] == "timeout" and c["outcome"] == "not_sent" and c["safeToRetry"] and not c["late"]
    # All is known now: nothing is asked again.
    await lock.leave()
    device = await lock.connect()
    await device.nothing("reconcile", 0.1)


async def test_unknown_again_and_again(lock):
    await lock.connect()
    c = await lock.order(timeoutMs=3000)
    for attempt in (2, 3, 4):
        assert (await lock.ack(c["commandId"], "unknown"))["type"] == "ok"
        m = await lock.client.expect("command", where=lambda m: m["payload"]["attempt"] == attempt)
        assert m["payload"]["commandId"] == c["commandId"]
    c = await lock.ends(c["commandId"])
    # Its time ran from the first sending.
    assert c["status"] == "timeout" and c["outcome"] == "unconfirmed" and ms(c["finishedAt"]) - ms(c["sentAt"]) < 3800
    assert (await lock.ack(c["commandId"], "unknown"))["type"] == "ok"
    c = await lock.get(c["commandId"])
    assert c["status"] == "timeout" and c["outcome"] == "not_sent"


async def test_late_result_by_reconcile(lock):
    device = await lock.connect()
    c = await lock.order(timeoutMs=1000)
    await device.expect("command")		# or it would be the device's end that comes first, and nothing would be sent
    await lock.leave()
    assert (await lock.ends(c["commandId"]))["status"] == "timeout"
    device = await lock.connect()
    assert (await device.expect("reconcile"))["payload"]["commandIds"] == [c["commandId"]]
    assert (await lock.ack(c["commandId"], "executed"))["type"] == "ok"
    c = await lock.get(c["commandId"])
    assert c["status"] == "executed" and c["late"] and c["outcome"] == "confirmed"


async def test_acks_that_are_refused(lock, belayd):
    other = Lock(belayd, next(names), None)
    other.token = await belayd.register(other.name)
    foreign = await belayd.register(lock.name, token(tenant="t9"))
    await lock.connect()
    await other.connect()
    twin = await belayd.device(lock.name, foreign)		# the same id in another tenant
    c = await lock.order()
    for device in (other.client, twin):
        for status in ("accepted", "executed", "failed", "unknown"):
            m = await device.ask("command_ack", {"commandId": c["commandId"], "status": status})
            assert error_of(m) == "not_found"
    assert (await lock.get(c["commandId"]))["status"] == "sent"
    for status in ("accepted", "executed", "failed", "unknown"):
        assert error_of(await lock.ack(str(uuid.uuid4()), status)) == "not_found"
    assert error_of(await lock.client.ask("command_ack", {"commandId": "x", "status": "executed"})) == "invalid_payload"
    assert error_of(await lock.client.ask("command_ack", {"commandId": c["commandId"], "status": "done"})) == "invalid_payload"
    # Not sent yet: the device can't know it.
    await other.leave()
    q = await other.order(queueMs=60000)
    assert error_of(await lock.ack(q["commandId"], "executed")) == "not_found"
    assert (await other.get(q["commandId"]))["status"] == "queued"
    assert (await lock.ack(c["commandId"], "executed"))["type"] == "ok"
    for status in ("accepted", "executed", "failed", "unknown"):
        assert error_of(await lock.ack(c["commandId"], status)) == "already_final"
    c = await lock.get(c["commandId"])
    assert c["status"] == "executed" and steps(c) == ["stored", "sent", "executed"]
    await twin.close()


async def test_command_while_the_device_reconnects(lock):
    """Takeovers without end while commands come: each is run once, or is said not to have been sent."""
    ran, stop = [], asyncio.Event()
    devices = []

    async def serve(client):
        def answer(p):
            ran.append((p["commandId"], p["attempt"]))
            return {"commandId": p["commandId"], "status": "executed"}
        await run_device(client, answer)

    async def flap():
        while not stop.is_set():
            client = await lock.connect()
            devices.append(client)
            for id in [i for m in client.kept if m["type"] == "reconcile" for i in m["payload"]["commandIds"]]:
                await client.send("command_ack", {"commandId": id, "status": "unknown"})
            await serve(client)
            await asyncio.sleep(0.02)

    task = asyncio.ensure_future(flap())
    await eventually(lambda: devices)
    commands = []
    for _ in range(10):
        commands += await asyncio.gather(*(lock.order(queueMs=20000, timeoutMs=1000) for _ in range(8)))
    stop.set()
    await task
    ends = [await lock.ends(c["commandId"]) for c in commands]
    counts = {}
    for id, _ in ran:
        counts[id] = counts.get(id, 0) + 1
    assert all(n == 1 for n in counts.values())
    for c in ends:
        if c["status"] == "executed":
            assert c["commandId"] in counts
        else:
            assert c["status"] == "timeout", c
            assert c["commandId"] not in counts or c["outcome"] != "not_sent", c
    assert len(set(counts)) <= len(commands)
    for d in devices:
        await d.close()


# --- who hears of it


async def test_wait(lock):
    device = await lock.connect()
    waits = asyncio.ensure_future(lock.post(query="?wait=1", timeoutMs=20000))
    m = (await device.expect("command"))["payload"]
    await lock.ack(m["commandId"], "accepted")
    await asyncio.sleep(0.2)
    assert not waits.done()
    await lock.ack(m["commandId"], "failed", error="no")
    status, body = await asyncio.wait_for(waits, PATIENCE)
    assert status == 200 and body["command"]["status"] == "failed"
    status, body = await lock.post(query="?wait=1", timeoutMs=1000)
    assert status == 504 and body["command"]["status"] == "timeout"
    status, body = await lock.post(query="?wait=1", onlyIf={"status.a": 1})
    assert status == 200 and body["command"]["status"] == "failed"
    await lock.leave()
    status, body = await lock.post(query="?wait=1")
    assert status == 409
    status, body = await lock.post(query="?wait=1", queueMs=300)
    assert status == 200 and body["command"]["status"] == "expired"
    waits = asyncio.ensure_future(lock.post(query="?wait=1", queueMs=20000))
    ids = await eventually(lambda: open_ids(lock))
    status, _ = await lock.belayd.rest("DELETE", f"/api/command/{ids[0]}")
    assert status == 200
    status, body = await asyncio.wait_for(waits, PATIENCE)
    assert status == 200 and body["command"]["status"] == "cancelled"


async def open_ids(lock):
    _, body = await lock.belayd.rest("GET", f"/api/device/{lock.name}/commands")
    return [c["commandId"] for c in body["commands"] if c["finishedAt"] is None and c["status"] == "queued"]


async def test_everyone_hears_each_change_once(lock, belayd):
    """The requester (even with nothing subscribed), other connections of the owner, sharers and admins; nobody else."""
    for user, permission in (("viewer", "view"), ("guest", "control")):
        status, _ = await belayd.rest("POST", f"/api/device/{lock.name}/share", {"userId": user, "permission": permission})
        assert status == 201
    await lock.connect()
    quiet = await belayd.user()
    assert (await quiet.ask("subscribe", {"devices": []}))["type"] == "ok"
    requester_elsewhere_quiet = await belayd.user()
    assert (await requester_elsewhere_quiet.ask("subscribe", {"devices": []}))["type"] == "ok"
    hears = {"owner": await belayd.user(), "owner again": await belayd.user(), "viewer": await belayd.user("viewer"),
             "guest": await belayd.user("guest"), "admin": await belayd.user("boss", role="admin"),
             "service": await belayd.open("/ws?tenantId=t1", {"Authorization": f"Bearer {token('svc', role='service')}"})}
    deaf = [await belayd.user("stranger"), await belayd.user("u1", "t2"), await belayd.user("boss", "t2", role="admin"),
            requester_elsewhere_quiet]
    first = await quiet.ask("command", {"deviceId": lock.name, "command": "x"})
    id = first["payload"]["commandId"]
    await lock.client.expect("command")
    await lock.ack(id, "accepted")
    await lock.ack(id, "executed")
    for who, c in hears.items():
        got = [await c.expect("command_status") for _ in range(3)]
        assert [m["payload"]["status"] for m in got] == ["sent", "accepted", "executed"], who
        assert all(m["payload"]["commandId"] == id for m in got)
        assert got[0]["cursor"] and got[2]["cursor"] and got[2]["cursor"] != got[0]["cursor"]
        assert "re" not in got[0]
    assert first["payload"]["status"] == "sent" and "re" in first
    assert [(await quiet.expect("command_status"))["payload"]["status"] for _ in range(2)] == ["accepted", "executed"]
    for c in [quiet, *deaf, *hears.values()]:
        await c.nothing("command_status", 0.02)
        await c.close()


async def test_requester_is_told_of_a_timeout(lock):
    await lock.connect()
    user = await lock.belayd.user()
    await user.ask("subscribe", {"devices": []})
    m = await user.ask("command", {"deviceId": lock.name, "command": "x", "timeoutMs": 1000})
    assert m["payload"]["status"] == "sent"
    assert (await user.expect("command_status"))["payload"]["status"] == "timeout"
    await lock.ack(m["payload"]["commandId"], "executed")
    assert (await user.expect("command_status"))["payload"]["late"]
    await user.nothing("command_status", 0.05)
    await user.close()


# --- who may


async def test_permissions(lock, belayd):
    await lock.connect()
    for user, permission, more in (("viewer", "view", {}), ("opener", "control", {"commands": ["unlock_door"]}), ("guest", "control", {})):
        status, _ = await belayd.rest("POST", f"/api/device/{lock.name}/share", {"userId": user, "permission": permission, **more})
        assert status == 201
    for who, command, wanted in (("stranger", "ring", 403), ("viewer", "ring", 403), ("opener", "ring", 403), ("opener", "unlock_door", 202),
                                 ("guest", "ring", 202)):
        status, body = await lock.post(command, token(who))
        assert status == wanted, (who, body)
        c = await belayd.user(who)
        m = await c.ask("command", {"deviceId": lock.name, "command": command})
        assert (m["type"] == "command_status") if wanted == 202 else error_of(m) == "no_access", (who, m)
        await c.close()
    status, body = await lock.post(bearer=token(tenant="t2"))
    assert status == 404 and body["error"]["code"] == "not_found"
    status, body = await lock.post(bearer=token("boss", "t2", role="admin"))
    assert status == 404
    status, body = await lock.post(bearer=token("boss", role="admin"))
    assert status == 202
    id = body["command"]["commandId"]
    for bearer, wanted in ((token("stranger"), 403), (token("viewer"), 200), (token("u1", "t2"), 404), (token("boss", "t2", role="admin"), 404)):
        assert (await belayd.rest("GET", f"/api/command/{id}", bearer=bearer))[0] == wanted
        assert (await belayd.rest("GET", f"/api/device/{lock.name}/commands", bearer=bearer))[0] == wanted
    await lock.leave()
    q = await lock.order(queueMs=60000)
    for bearer, wanted in ((token("stranger"), 403), (token("viewer"), 403), (token("u1", "t2"), 404), (token("guest"), 200)):
        assert (await belayd.rest("DELETE", f"/api/command/{q['commandId']}", bearer=bearer))[0] == wanted
    assert (await belayd.rest("GET", f"/api/command/{uuid.uuid4()}"))[0] == 404
    assert (await belayd.rest("GET", "/api/command/nonsense"))[0] == 404
    assert (await belayd.rest("POST", "/api/command", {"deviceId": "nowhere", "command": "x"}))[0] == 404
    # Service keys of all tenants name theirs.
    status, body = await belayd.rest("POST", "/api/command", {"deviceId": lock.name, "command": "x", "queueMs": 5000, "tenantId": "t1"}, belayd.service_key)
    assert status == 202, body
    status, body = await belayd.rest("POST", "/api/command", {"deviceId": lock.name, "command": "x", "queueMs": 5000, "tenantId": "t2"}, belayd.service_key)
    assert status == 404
    status, body = await belayd.rest("POST", "/api/command", {"deviceId": lock.name, "command": "x"}, belayd.service_key)
    assert status == 422 and body["error"]["field"] == "tenantId"


@pytest.mark.parametrize("body, field", [
    ({"command": "x"}, "deviceId"),
    ({"deviceId": "a"}, "command"),
    ({"deviceId": "a", "command": ""}, "command"),
    ({"deviceId": "a", "command": "x", "timeoutMs": 999}, "timeoutMs"),
    ({"deviceId": "a", "command": "x", "timeoutMs": 300001}, "timeoutMs"),
    ({"deviceId": "a", "command": "x", "timeoutMs": "1000"}, "timeoutMs"),
    ({"deviceId": "a", "command": "x", "queueMs": -1}, "queueMs"),
    ({"deviceId": "a", "command": "x", "queueMs": 2592000001}, "queueMs"),
    ({"deviceId": "a", "command": "x", "params": []}, "params"),
    ({"deviceId": "a", "command": "x", "onlyIf": 1}, "onlyIf"),
    ({"deviceId": "a", "command": "x", "onlyIf": {"nonsense": 1}}, "onlyIf"),
    ({"deviceId": "a", "command": "x", "idempotencyKey": ""}, "idempotencyKey"),
])
async def test_bad_requests(belayd, body, field):
    status, answer = await belayd.rest("POST", "/api/command", body)
    assert status == 422 and answer["error"]["code"] == "invalid_payload", answer
    assert answer["error"]["field"].startswith(field), answer


async def test_list_is_paged(lock):
    ids = [(await lock.order(queueMs=60000, params={"i": i}))["commandId"] for i in range(7)]
    got, cursor, pages = [], "", 0
    while True:
        status, body = await lock.belayd.rest("GET", f"/api/device/{lock.name}/commands?limit=3{cursor}")
        assert status == 200 and len(body["commands"]) <= 3
        got += [c["commandId"] for c in body["commands"]]
        pages += 1
        if body["nextCursor"] is None:
            break
        cursor = f"&cursor={body['nextCursor']}"
    assert got == ids[::-1] and pages == 3
    for bad in ("limit=0", "limit=501", "limit=x", "cursor=x", "cursor=-1"):
        status, body = await lock.belayd.rest("GET", f"/api/device/{lock.name}/commands?{bad}")
        assert status == 422, (bad, body)


# --- one winner


async def test_result_or_timeout_never_both(lock, belayd):
    """Results that arrive just when the time is over: each command ends once in time, or times out and ends late."""
    await lock.connect()
    user = await belayd.user()
    pending = await belayd.metric("belay_commands_pending")
    loop = asyncio.get_running_loop()
    answers = {}

    async def reader():
        while True:
            m = await lock.client.recv(60)
            if m["type"] == "command":
                # Some around the deadline, which is looked at every 100 ms, and some well before.
                i = m["payload"]["params"]["i"]
                delay = 0.9 + 0.3 * i / 30 if i % 10 else i / 30
                loop.call_later(delay, lambda id=m["payload"]["commandId"]: asyncio.ensure_future(
                    lock.client.send("command_ack", {"commandId": id, "status": "executed"}, "a" + id)))
            elif "re" in m:
                answers[m["re"][1:]] = m["type"]

    task = asyncio.ensure_future(reader())
    heard, asked = {}, 0

    def kinds():
        return {tuple(h) for h in heard.values()}

    # In rounds, until both have happened: how long a command is on its way is up to the machine.
    while asked < 240 or len(kinds()) < 2:
        assert asked < 3000, "the times should be such that both happen"
        for i in range(30):		# all of them in flight
            await user.send("command", {"deviceId": lock.name, "command": "x", "params": {"i": i}, "timeoutMs": 1000})
        asked += 30
        while len(heard) < asked or not all(h[-1].startswith("executed") for h in heard.values()):
            m = await user.expect("command_status")
            heard.setdefault(m["payload"]["commandId"], []).append(m["payload"]["status"] + ("+" if m["payload"]["late"] else ""))
    await eventually(lambda: len(answers) == asked)
    assert set(answers.values()) == {"ok"}
    assert kinds() == {("sent", "executed"), ("sent", "timeout", "executed+")}, kinds()
    events = await lock.events()
    assert all(n == 1 for n in events.values())
    for id, h in heard.items():
        assert ((id, "command_timeout") in events) == ("timeout" in h)
        assert (id, "command_executed") in events and (id, "command_sent") in events
    task.cancel()
    await user.close()
    assert await belayd.metric("belay_commands_pending") <= pending


async def test_two_acks_at_once(lock):
    """A device that says executed and failed in one breath: the first counts."""
    await lock.connect()
    for _ in range(20):
        c = await lock.order()
        for status in ("executed", "failed"):
            await lock.client.send("command_ack", {"commandId": c["commandId"], "status": status}, status)
        assert (await lock.client.expect("ok"))["re"] == "executed"
        assert (await lock.client.expect("error"))["payload"]["code"] == "already_final"
        assert (await lock.get(c["commandId"]))["status"] == "executed"


async def test_ack_without_id_is_not_answered(lock):
    await lock.connect()
    c = await lock.order()
    await lock.client.send("command_ack", {"commandId": c["commandId"], "status": "executed"})
    assert (await lock.ends(c["commandId"]))["status"] == "executed"
    await lock.client.nothing("ok", 0)


async def test_deleting_a_device_with_open_commands(lock, belayd):
    await lock.connect()
    waits = asyncio.ensure_future(lock.post(query="?wait=1", timeoutMs=2000))
    await lock.client.expect("command")
    sent = await lock.order(timeoutMs=1000)
    status, _ = await belayd.rest("DELETE", f"/api/device/{lock.name}")
    assert status == 204
    assert await lock.client.closed() == (4011, "Credentials revoked")
    lock.client = None
    assert (await belayd.rest("GET", f"/api/command/{sent['commandId']}"))[0] == 404
    status, body = await asyncio.wait_for(waits, PATIENCE)
    assert status == 404 or (status == 504 and body["command"]["status"] == "timeout"), body


async def test_what_is_left(start):
    """When all has ended no entry of the pending table is held, and the database is whole."""
    daemon = start()
    lock = Lock(daemon, "d1", await daemon.register("d1"))
    await lock.connect()
    done, stays, times_out = await lock.order(), await lock.order(timeoutMs=1000), await lock.order(timeoutMs=1000)
    assert await daemon.metric("belay_commands_pending") == 3
    await lock.ack(done["commandId"], "executed")
    await eventually(lambda: pending_is(daemon, 2))
    status, _ = await daemon.rest("DELETE", "/api/device/d1")
    assert status == 204
    await eventually(lambda: pending_is(daemon, 0))
    assert await daemon.metric("belay_devices_online") == 0
    assert await daemon.metric("belay_worker_deaths_total") == 0
    assert daemon.stop() == 0
    db = sqlite3.connect(f"file:{daemon.folder}/belay.db?mode=ro", uri=True)
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()


async def pending_is(daemon, n):
    return await daemon.metric("belay_commands_pending") == n
