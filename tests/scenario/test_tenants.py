"""Tenants: nothing of one ever reaches another (protocol section 1).

Two tenants have the same device ids, user ids and visitor ids.  Everything that one of them can hold carries a canary; the
other then walks over every route and every message, and what it is answered is searched for it.
"""

import asyncio
import base64
import json
import re
import uuid
from pathlib import Path

import pytest

from belay import eventually, run_device, token

SETTINGS = {"store.telemetry_retention": "1d", "limits.requests_per_user": 0}		# what is refused as too much is not walked
TOP = Path(__file__).resolve().parents[2]
DEVICES = ["lock-1", "lock-2"]
USERS = ["u1", "u2"]
VISIT = "01890000-0000-7000-8000-000000000001"


def canary(what):
    return f"canary-{what}-kqzv"


def routes():
    text = (TOP / "src/http/routes.def").read_text()
    return re.findall(r'^ROUTE\((\w+), (\w+), "([^"]+)", (\w+), (\w+)', text, re.M)


def messages():
    """Every type that a user may send."""
    text = (TOP / "src/msg/schema.def").read_text()
    return [name for name, frm in re.findall(r'^MESSAGE\(\w+, "(\w+)", ([A-Z| ]+), ', text, re.M) if "USER" in frm]


class Tenant:
    """Owner, a second user, an admin, two devices; in the first tenant everything is full of canaries."""

    def __init__(self, belayd, name, marked):
        self.belayd, self.name, self.marked = belayd, name, marked
        self.ids = {}                       # what the server made: commandId, eventId, cursor, visitor…
        self.clients = {}
        self.devices = {}

    def mark(self, what):
        return canary(what) if self.marked else f"plain-{what}"

    def token(self, user="u1", role=None):
        return token(user, self.name, role)

    async def rest(self, method, path, body=None, user="u1", role=None):
        return await self.belayd.rest(method, path, body, self.token(user, role))

    async def fill(self):
        m = self.mark
        for d in DEVICES:
            status, body = await self.rest("POST", "/api/device/register", {
                "deviceId": d, "name": m("name"), "deviceType": m("type"), "tags": [m("tag")], "metadata": {m("key"): m("metadata")},
                "settings": {m("setting"): m("settings")}})
            assert status == 201, body
            self.devices[d] = await self.belayd.device(d, body["deviceToken"])
            await run_device(self.devices[d], lambda p: {"commandId": p["commandId"], "status": "executed", "result": {"r": m("result")}})
            await self.rest("POST", f"/api/device/{d}/share", {"userId": m("share"), "permission": "view", "commands": [m("scope")]})
        if self.marked:
            await self.rest("POST", "/api/device/register", {"deviceId": "only-a", "name": m("only")})
        for user, role in (("u1", None), ("u2", None), ("boss", "admin"), ("backend", "service")):
            self.clients[user] = await self.belayd.user(user, self.name, role)
        await self.speak()
        _, body = await self.rest("GET", "/api/events?limit=500")
        self.ids["eventId"], self.ids["cursor"] = body["events"][0]["eventId"], body["events"][0]["cursor"]
        await self.rest("POST", "/api/telemetry", [{"deviceId": "lock-1", "data": {"t": m("telemetry3")}}] * 2)
        self.ids["sample"] = await eventually(self.stored)

    async def stored(self):
        """The cursor of a page of stored telemetry, when there are several."""
        _, body = await self.rest("GET", "/api/device/lock-1/telemetry?limit=1")
        return body["nextCursor"] if body["telemetry"] else None

    async def speak(self):
        """One of each thing that can happen, with a canary in each field that takes one."""
        m = self.mark
        d = self.devices["lock-1"]
        await d.send("status", {m("state"): m("state")})
        await d.send("telemetry", {"data": {m("telemetry"): m("telemetry")}})
        await d.send("event", {"event": "x_" + ("canary_kqzv" if self.marked else "plain"), "data": {"e": m("event")}})
        await d.send("visitor", {"visitorId": VISIT, "name": m("visitor"), "snapshotUrl": f"https://{m('url')}.example/", "data": {"v": m("vdata")}})
        status, body = await self.rest("POST", "/api/command?wait=1", {"deviceId": "lock-1", "command": m("command"), "params": {"p": m("params")},
                                                                       "idempotencyKey": "the-same-key"})
        assert status == 200, body
        self.ids["commandId"] = body["command"]["commandId"]
        await self.rest("POST", "/api/telemetry", {"deviceId": "lock-2", "data": {"t": m("telemetry2")}})
        await self.rest("PUT", "/api/device/lock-2", {"name": m("name2"), "metadata": {"m": m("metadata2")}})
        for path in ("/v1/websocket/broadcast", "/v1/websocket/send/u1"):
            await self.rest("POST", path, {"type": "canary.type", "payload": {"b": m("broadcast")}} if self.marked
                            else {"type": "plain.type", "payload": {}}, "boss", "admin")

    async def close(self):
        for c in list(self.clients.values()) + list(self.devices.values()):
            await c.close()


def clean(text, where):
    assert "kqzv" not in text, f"{where}: {text[max(0, text.find('kqzv') - 200):][:400]}"


@pytest.fixture(scope="module")
async def two(belayd):
    a, b = Tenant(belayd, "acme", True), Tenant(belayd, "bolt", False)
    await b.fill()
    await a.fill()
    yield a, b
    await a.close()
    await b.close()


async def test_nothing_arrives(two):
    """What was sent to the users of B while A was full of life, and still is."""
    a, b = two
    for c in b.clients.values():
        await c.ask("ping")
        c.kept.clear()
    await a.speak()
    status, body = await a.rest("POST", f"/api/visitor/{VISIT}/approve")
    for c in a.clients.values():
        assert (await c.ask("ping"))["type"] == "pong"
    assert any("kqzv" in json.dumps(c.kept) for c in a.clients.values()), "the canaries sing at home"
    for user, c in b.clients.items():
        assert (await c.ask("ping"))["type"] == "pong"
        assert c.kept == [], f"{user} of the other tenant was told something"
    for d in b.devices.values():
        assert not [m for m in d.kept if m["type"] not in ("connected",)], d.kept


async def test_every_route(two, belayd):
    """All routes with all ids of A, as every kind of user of B: no canary, and what is A's is not there, in the same words."""
    a, b = two
    for user, role in (("u1", None), ("u2", None), ("boss", "admin"), ("backend", "service")):
        bearer = b.token(user, role)
        for name, method, path, who, body in routes():
            if who == "SOCKET" or (method, path) in (("DELETE", "/api/device/:id"), ("POST", "/api/device/:id/token")):
                continue        # test_destruction_stays_at_home
            made = {"command": {"deviceId": "lock-1", "command": "c"}, "command_open": {"deviceId": "lock-1"}, "broadcast": {"type": "x", "payload": {}},
                    "send": {"type": "x", "payload": {}}, "telemetry_post": {"deviceId": "lock-1", "data": {}},
                    "device_register": {"name": "n"}, "device_update": {"metadata": {}}, "device_share": {"userId": "u9", "permission": "view"},
                    "device_event": {"event": "x_y"}, "device_state": {}}.get(body)
            ids = ["lock-1", canary("share"), "nowhere"]
            if "/command/:id" in path:
                ids = [a.ids["commandId"]]
            elif "/visitor/" in path:
                ids = [VISIT]
            for id in ids:
                full = path.replace(":id", id).replace(":userId", canary("share"))
                queries = [""] if method != "GET" else ["", "?limit=500", f"?cursor={a.ids['cursor']}", f"?cursor={a.ids['sample']}",
                                                        f"?tenantId={a.name}", f"?q={canary('name')}",
                                                        f"?tag={canary('tag')}", f"?type={canary('type')}"]
                for query in queries:
                    status, headers, raw = await belayd.rest(method, full + query, made, bearer, raw=True)
                    text = raw.decode()
                    if canary("share") in full:
                        text = text.replace(canary("share"), "")        # told back to who said it
                    clean(text + str(headers), f"{method} {full + query} as {user}")
                    if query == f"?tenantId={a.name}":
                        # Nothing of either tenant: that of another is not one's to name.
                        assert status == (200 if who == "ANYONE" or "ready" in path else 403), (method, full)
                    elif "/command/:id" in path:
                        assert status == 404, (method, full)
                        _, _, nothing = await belayd.rest(method, path.replace(":id", str(uuid.uuid4())), made, bearer, raw=True)
                        assert raw == nothing, "in other words than what does not exist"
            if "/device/:id" in path or name in ("command_create", "command_open", "telemetry"):
                # A device that only A has: as if there were none.  Some routes are for a device alone: one of B asks.
                asks = bearer if who != "DEVICE" else token(user=None, tenant=b.name, device="lock-1")
                answers = []
                for id in ("only-a", "nowhere"):
                    body_ = {**made, "deviceId": id} if made and "deviceId" in made else made
                    status, _, raw = await belayd.rest(method, path.replace(":id", id).replace(":userId", "u1"), body_, asks, raw=True)
                    assert status == 404, (method, path, raw)
                    answers.append(raw)
                assert answers[0] == answers[1], (method, path, answers)
    # A tenant in a body that is another's is refused, but for keys of all tenants.
    for path, body in (("/api/command", {"deviceId": "lock-1", "command": "c", "tenantId": "acme"}),
                       ("/api/telemetry", {"deviceId": "lock-1", "data": {"x": 1}, "tenantId": "acme"}),
                       ("/api/device/register", {"name": "n", "tenantId": "acme", "deviceId": "smuggled"}),
                       ("/v1/websocket/broadcast", {"type": "x", "payload": {}, "tenantId": "acme"})):
        for c in a.clients.values():
            await c.ask("ping")
            c.kept.clear()
        status, answer = await belayd.rest("POST", path, body, b.token("boss" if "v1" in path else "u1", "admin" if "v1" in path else None))
        assert status == 403 and answer["error"]["field"] == "tenantId", answer
        for c in a.clients.values():
            await c.ask("ping")
            assert c.kept == [], (path, c.kept)
    assert (await a.rest("GET", "/api/device/smuggled"))[0] == 404
    assert (await b.rest("GET", "/api/device/smuggled"))[0] == 404


async def test_every_message(two):
    """All message types with all ids of A."""
    a, b = two
    payloads = {"auth": {"token": "x"}, "ping": {}, "subscribe": {"devices": ["only-in-acme"]}, "unsubscribe": {"devices": ["only-in-acme"]},
                "command": {"deviceId": "only-in-acme", "command": "c"}, "cancel": {"commandId": a.ids["commandId"]},
                "visitor_decide": {"visitorId": VISIT, "decision": "deny"}}
    assert set(messages()) == set(payloads), "a message that is not in this walk"
    await a.rest("POST", "/api/device/register", {"deviceId": "only-in-acme", "name": canary("only")})
    status, body = await a.rest("POST", "/api/command", {"deviceId": "only-in-acme", "command": "c", "queueMs": 600000, "params": {"p": canary("queued")}})
    payloads["cancel"]["commandId"] = body["command"]["commandId"]
    bdt = (await a.rest("POST", "/api/device/only-in-acme/token"))[1]["deviceToken"]
    door = await a.belayd.device("only-in-acme", bdt)
    visit = str(uuid.uuid4())
    assert (await door.ask("visitor", {"visitorId": visit, "name": canary("ring")}))["type"] == "ok"
    payloads["visitor_decide"]["visitorId"] = visit
    nothing = {"subscribe": {"devices": ["nowhere"]}, "command": {"deviceId": "nowhere", "command": "c"}, "cancel": {"commandId": str(uuid.uuid4())},
               "visitor_decide": {"visitorId": str(uuid.uuid4()), "decision": "deny"}}
    for user, c in b.clients.items():
        for type, payload in payloads.items():
            if type in ("auth", "ping"):
                continue
            answer = await c.ask(type, payload)
            clean(json.dumps(answer).replace("only-in-acme", ""), f"{type} as {user}")
            if type in nothing:
                same = await c.ask(type, nothing[type])
                if type != "subscribe":
                    named = await c.ask(type, {**payload, "tenantId": "acme"})
                    assert named["payload"]["code"] == "no_access" and named["payload"]["field"] == "payload.tenantId", named
                assert answer["type"] == "error" and answer["payload"] == same["payload"], (type, answer, same)
                assert answer["payload"]["code"] == "not_found"
        await c.ask("subscribe", {"devices": None})
    # And nothing was done by it.
    _, body = await a.rest("GET", f"/api/command/{payloads['cancel']['commandId']}")
    assert body["command"]["status"] in ("queued", "sent")
    _, body = await a.rest("GET", "/api/visitor?limit=500")
    assert next(v for v in body["visitors"] if v["visitorId"] == visit)["status"] == "pending"
    await door.close()


async def test_the_same_names_are_different_things(two, belayd):
    """The same device id, visitor id and idempotency key in both: each tenant has its own."""
    a, b = two
    for d in DEVICES:
        _, body = await b.rest("GET", f"/api/device/{d}")
        assert body["device"]["tenantId"] == "bolt"
        clean(json.dumps(body), d)
    for what in ("events", "commands", "telemetry"):
        _, body = await b.rest("GET", f"/api/device/lock-1/{what}?limit=500")
        assert body[what]
        clean(json.dumps(body), what)
        _, body = await a.rest("GET", f"/api/device/lock-1/{what}?limit=500")
        assert "kqzv" in json.dumps(body), "the canaries sing at home"
    _, body = await b.rest("GET", "/api/visitor")
    assert [v["visitorId"] for v in body["visitors"]] == [VISIT]
    clean(json.dumps(body), "visitors")
    assert a.ids["commandId"] != b.ids["commandId"], "an idempotency key is of one tenant's user"
    # A's device token is no token of B's device of the same id, and a JWT names its tenant.
    c = await belayd.open("/ws", {"Authorization": f"Bearer {token(user=None, tenant='bolt', device='lock-2')}"})
    assert c.connected["payload"]["tenantId"] == "bolt"
    await c.close()


async def test_foreign_cursors(two):
    """A cursor of A is as good to B as one that was made up."""
    a, b = two
    for _ in "12":
        assert (await a.rest("POST", "/api/command?wait=1", {"deviceId": "lock-1", "command": "one"}))[0] == 200
    _, body = await a.rest("GET", "/api/device/lock-1/commands?limit=1")
    for path, cursor in (("/api/events", a.ids["cursor"]), ("/api/device/lock-1/events", a.ids["cursor"]),
                         ("/api/device/lock-1/commands", body["nextCursor"]), ("/api/device/lock-1/telemetry", a.ids["sample"])):
        assert (await a.rest("GET", f"{path}?cursor={cursor}"))[0] == 200
        refused = [await b.belayd.rest("GET", f"{path}?cursor={c}", bearer=b.token(), raw=True) for c in (cursor, "A" * 22, "7")]
        assert [(r[0], r[2]) for r in refused] == [(422, refused[0][2])] * 3
        assert json.loads(refused[0][2])["error"]["code"] == "invalid_payload" and json.loads(refused[0][2])["error"]["field"] == "cursor"


async def test_cursors_tell_nothing(two):
    """Those of events in a row have nothing in common that a count or an order could be read from."""
    a, b = two
    for t in (a, b):
        _, body = await t.rest("GET", "/api/events?limit=20")
        raw = [base64.urlsafe_b64decode(e["cursor"] + "==") for e in body["events"]]
        assert {len(r) for r in raw} == {16}
        for i, one in enumerate(raw):
            for other in raw[:i]:
                assert one[:6] != other[:6] and one[-6:] != other[-6:]
        assert raw != sorted(raw) and raw != sorted(raw, reverse=True)


async def test_resume_with_a_foreign_cursor(two):
    a, b = two
    for user, role in (("u1", None), ("boss", "admin")):
        for cursor in ("0", a.ids["cursor"]):
            c = await b.belayd.user(user, b.name, role, f"?resume={cursor}")
            _, body = await b.rest("GET", "/api/events?limit=500", None, user, role)
            since = body["events"][-1]["at"]
            assert await c.recv() == {"type": "gap", "payload": {"dropped": 0, "since": since}}, "told from what is B's"
            await c.close()


async def test_counts(two, belayd):
    """Numbers of B do not move with what A does."""
    a, b = two
    paths = ("/api/device/stats", "/api/health/devices", "/v1/websocket/stats", f"/v1/websocket/user/{USERS[0]}/status", "/api/device", "/api/events",
             "/api/visitor")
    await belayd.rest("GET", "/health", bearer="")

    async def numbers():
        out = {}
        for path in paths:
            status, body = await b.rest("GET", path, user="boss", role="admin")
            assert status == 200
            out[path] = body
        for d in out["/api/device"]["devices"]:
            d["presence"].pop("lastSeen")
        return out

    before = await numbers()
    extra = await belayd.user("u1", "acme")
    await a.rest("POST", "/api/device/register", {"name": canary("more")})
    await a.speak()
    assert await numbers() == before
    await extra.close()


# What is of the moment or of the machine, and so differs between any two runs.
OF_THE_MOMENT = {"latencyMs", "p50", "p90", "p99", "uptimeMs", "windowMs", "pid", "worker"}
LOOKS = ((r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"), (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
         (r"^([A-Za-z0-9_-]{21}[AQgw]){1,2}$", "CURSOR"), (r"^btk_[A-Za-z0-9_-]{43}$", "TICKET"))


def told(value, window=None):
    """An answer without what no two runs have in common; rates as the counts that they are made of."""
    if isinstance(value, dict):
        window = value.get("windowMs", window)
        # A cursor is sealed, whatever it has in it.
        return {k: round(v * window / 1000) if k.endswith("PerSecond") else "CURSOR" if k == "nextCursor" and v else told(v, window)
                for k, v in value.items() if k not in OF_THE_MOMENT or isinstance(v, dict)}
    if isinstance(value, list):
        return [told(v, window) for v in value]
    if isinstance(value, str):
        for pattern, name in LOOKS:
            value = re.sub(pattern, name, value)
    return value


async def live(tenant):
    """A tenant's day, the same each time: everything that is counted anywhere."""
    await tenant.fill()
    for _ in "12":
        await tenant.speak()
    door = tenant.devices["lock-2"]
    door.task.cancel()
    for command, ack in (("fails", {"status": "failed", "error": "x"}), ("lost", None), ("stays", None)):
        status, body = await tenant.rest("POST", "/api/command", {"deviceId": "lock-2", "command": command,
                                                                  "timeoutMs": 1000 if command == "lost" else 60000})
        assert status == 202
        if ack:
            assert (await door.ask("command_ack", {"commandId": body["command"]["commandId"], **ack}))["type"] == "ok"
    _, silent = await tenant.rest("POST", "/api/device/register", {"deviceId": "silent", "name": "never there"})
    _, body = await tenant.rest("POST", "/api/command", {"deviceId": "silent", "command": "c", "queueMs": 60000})
    await tenant.rest("DELETE", f"/api/command/{body['command']['commandId']}")
    _, body = await tenant.rest("POST", "/api/command", {"deviceId": "silent", "command": "c", "queueMs": 100})

    async def over():
        _, commands = await tenant.rest("GET", "/api/device/lock-2/commands")
        _, queued = await tenant.rest("GET", f"/api/command/{body['command']['commandId']}")
        return queued["command"]["status"] == "expired" and [c["status"] for c in commands["commands"]] == ["sent", "timeout", "failed"]
    await eventually(over, 20, 0.3)
    for c in (*tenant.clients.values(), door):
        await c.send("nothing", {}, "1")
        await c.send("command_ack" if c is door else "subscribe", {"devices": 7}, "2")
        await c.ask("ping")
    assert (await tenant.rest("POST", "/api/device/register", {}))[0] == 422


async def all_that_is_told(tenant):
    """Every answer to every question, to every kind of user; what a dashboard missed; what all clients were sent."""
    out = {}
    ids = {":id": "lock-1", ":userId": "u1"}
    for user, role in (("u1", None), ("u2", None), ("boss", "admin"), ("backend", "service")):
        for name, method, path, who, _ in routes():
            if method != "GET" or who in ("SOCKET", "METRICS"):
                continue
            full = path.replace(":userId", ids[":userId"]).replace(":id", tenant.ids["commandId"] if "/command/" in path else ids[":id"])
            for query in ("", "?limit=2"):
                status, headers, raw = await tenant.belayd.rest(method, full + query, bearer=tenant.token(user, role), raw=True)
                out[user, full.replace(tenant.ids["commandId"], "ID") + query] = (status, sorted(headers), told(json.loads(raw)))
        c = await tenant.belayd.user(user, tenant.name, role, f"?resume={tenant.ids['cursor']}")
        out[user, "resume"] = [told(c.connected)]
        while out[user, "resume"][-1]["type"] not in ("resumed", "gap"):
            out[user, "resume"].append(told(await c.recv()))
        await c.close()
    for name, c in (*tenant.clients.items(), *tenant.devices.items()):
        if c is not tenant.devices["lock-1"]:
            await c.ask("ping")
        out[name, "messages"] = sorted(json.dumps(told(m)) for m in c.kept)
    return out


async def test_alone_and_beside_a_busy_one(start):
    """Whatever a tenant is told, numbers above all, is the same when it has the server for itself and when it has not."""
    # One gateway: in which of several a connection ends up is chance.
    settings = {**SETTINGS, "limits.message_rate": 100000, "limits.message_burst": 100000}
    alone, beside = (start(settings, workers=1) for _ in "12")
    busy, quiet = Tenant(beside, "acme", True), {d: Tenant(d, "bolt", False) for d in (alone, beside)}
    await busy.fill()
    done = asyncio.Event()

    async def be_busy():
        rounds = 0
        while not done.is_set() or rounds < 8:
            extra = await beside.user("u1", "acme")
            for _ in "123":
                await extra.ask("nothing")
                await busy.rest("GET", "/api/device/none")
                await busy.rest("POST", "/api/command", {"deviceId": "lock-1", "command": "c", "params": {"r": rounds}})
            await busy.rest("POST", "/api/command", {"deviceId": "only-a", "command": "c", "queueMs": 60000})
            await busy.rest("POST", "/api/device/register", {"name": "more", "deviceType": f"type-{rounds}"})
            await busy.speak()
            await extra.close()
            rounds += 1
            await asyncio.sleep(0.3)        # busy, but not in the way: they share two cores with this test

    async def one(d):
        await live(quiet[d])
        return await all_that_is_told(quiet[d])

    crowd = asyncio.ensure_future(be_busy())
    is_alone, is_beside = await asyncio.gather(one(alone), one(beside))
    done.set()
    await crowd
    assert set(is_alone) == set(is_beside)
    for what, answer in is_alone.items():
        assert is_beside[what] == answer, what
    _, body = await busy.rest("GET", "/api/health/metrics")
    assert body["events"]["stored"] > 60 and body["commands"]["executed"] > 10, "it was not busy"
    # Whose business it is sees both.
    _, whole = await beside.rest("GET", "/api/health/metrics", bearer=beside.service_key)
    _, named = await beside.rest("GET", "/api/health/metrics?tenantId=bolt", bearer=beside.service_key)
    assert whole["events"]["stored"] > body["events"]["stored"] > named["events"]["stored"] > 0
    assert told(named)["commands"] == is_alone["u1", "/api/health/metrics"][2]["commands"]
    assert named["commands"] == {**named["commands"], "created": 6, "executed": 1, "failed": 1, "timeout": 1, "expired": 1, "cancelled": 1,
                                 "pending": 1}
    _, detailed = await beside.rest("GET", "/api/health/detailed", bearer=beside.service_key)
    assert detailed["memory"]["devices"] == 4 and "devices" not in is_alone["boss", "/api/health/detailed"][2]["memory"]
    for t in (busy, *quiet.values()):
        await t.close()


async def test_what_everybody_may_see(two, belayd):
    """Health, metrics and refusals have no word of anybody in them."""
    a, b = two
    for path in ("/health", "/api/health", "/health/ready", "/api/health/detailed", "/api/health/metrics"):
        _, _, raw = await belayd.rest("GET", path, bearer=b.token(), raw=True)
        clean(raw.decode(), path)
        assert b"acme" not in raw and b"lock-1" not in raw
    _, _, raw = await belayd.rest("GET", "/metrics", bearer=belayd.service_key, raw=True)
    clean(raw.decode(), "/metrics")
    assert b"acme" not in raw and b"lock-1" not in raw and b"u1" not in raw
    clean(belayd.log_text(), "the log")


async def test_destruction_stays_at_home(two, belayd):
    """B deletes and rotates what it has by the names that A has too: A's go on."""
    a, b = two
    status, _ = await b.rest("POST", "/api/device/lock-1/token")
    assert status == 200
    status, _ = await b.rest("DELETE", "/api/device/lock-2")
    assert status == 204
    status, body = await b.rest("DELETE", "/v1/websocket/user/u1/disconnect", user="boss", role="admin")
    assert status == 200
    for d in DEVICES:
        assert (await a.rest("GET", f"/api/device/{d}"))[1]["device"]["presence"]["status"] == "online"
        assert (await a.rest("GET", f"/api/device/{d}/telemetry"))[1]["telemetry"]
    status, body = await a.rest("POST", "/api/command?wait=1", {"deviceId": "lock-2", "command": "still"})
    assert status == 200 and body["command"]["status"] == "executed"
    assert (await a.clients["u1"].ask("ping"))["type"] == "pong"
