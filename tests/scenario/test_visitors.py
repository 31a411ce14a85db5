"""Visitors: someone asks at a door to be let in, and exactly one decision wins (protocol sections 3 and 6)."""

import asyncio
import uuid

import pytest

from belay import eventually, run_device, token

VISITOR = {"visitorId", "deviceId", "name", "snapshotUrl", "data", "status", "decidedBy", "decidedAt", "commandId", "createdAt"}


class Door:
    def __init__(self, belayd, name):
        self.belayd, self.name = belayd, name

    async def open(self, answer=None):
        bdt = await self.belayd.register(self.name)
        for user, permission, more in (("vw", "view", {}), ("ctl", "control", {}), ("adm", "admin", {}),
                                       ("unl", "control", {"commands": ["unlock_door"]}), ("oth", "control", {"commands": ["other"]})):
            await self.belayd.rest("POST", f"/api/device/{self.name}/share", {"userId": user, "permission": permission, **more})
        self.client = await self.belayd.device(self.name, bdt)
        self.ran = await run_device(self.client, answer)
        return self

    async def rings(self, **fields):
        before = {v["visitorId"] for v in await self.visitors()}
        await self.client.send("visitor", fields, "v")
        return await eventually(lambda: self.news(before))

    async def news(self, before):
        return next((v for v in await self.visitors() if v["visitorId"] not in before), None)

    async def visitors(self, query="", bearer=None):
        status, body = await self.belayd.rest("GET", "/api/visitor?limit=500" + query, bearer=bearer)
        assert status == 200 and set(body) == {"visitors", "nextCursor"}, body
        return [v for v in body["visitors"] if v["deviceId"] == self.name]

    async def decide(self, visit, what, bearer=None):
        return await self.belayd.rest("POST", f"/api/visitor/{visit['visitorId']}/{what}", bearer=bearer)


@pytest.fixture
async def door(belayd):
    door = await Door(belayd, "door-" + uuid.uuid4().hex[:8]).open()
    yield door
    await door.client.close()


async def test_the_whole_way(door, belayd):
    people = {k: await belayd.user(*v) for k, v in {
        "owner": ("u1",), "ctl": ("ctl",), "admin": ("boss", "t1", "admin"), "vw": ("vw",), "stranger": ("nobody",),
        "foreign": ("boss", "t2", "admin")}.items()}
    visit = await door.rings(name="Ann Example", snapshotUrl="https://x.example/1.jpg", data={"company": "ACME"})
    assert set(visit) == VISITOR
    assert (visit["name"], visit["snapshotUrl"], visit["data"]) == ("Ann Example", "https://x.example/1.jpg", {"company": "ACME"})
    assert visit["status"] == "pending" and visit["decidedBy"] is visit["decidedAt"] is visit["commandId"] is None
    for k in ("owner", "ctl", "admin"):
        m = await people[k].expect("new_visitor")
        assert m["payload"] == visit and m["cursor"]
    status, body = await door.decide(visit, "approve", token("ctl"))
    assert status == 200 and set(body) == {"visitor"} and set(body["visitor"]) == VISITOR
    done = body["visitor"]
    assert (done["status"], done["decidedBy"]) == ("approved", "ctl") and done["decidedAt"] and done["commandId"]
    for k in ("owner", "ctl", "admin"):
        assert (await people[k].expect("visitor_decided"))["payload"] == done
    for k in ("vw", "stranger", "foreign"):
        await people[k].nothing("new_visitor", 0.05)
        await people[k].nothing("visitor_decided", 0)
    await eventually(lambda: door.ran == [done["commandId"]])
    _, body = await belayd.rest("GET", f"/api/command/{done['commandId']}")
    assert body["command"]["command"] == "unlock_door" and body["command"]["requestedBy"] == "ctl"
    _, body = await belayd.rest("GET", f"/api/device/{door.name}/events")
    stored = [e["event"] for e in body["events"]]
    assert stored.count("visitor_requested") == stored.count("visitor_decided") == 1
    # Once decided, it is decided: by REST and by WebSocket.
    for what in ("approve", "deny"):
        status, body = await door.decide(visit, what)
        assert status == 409 and body["error"]["code"] == "conflict" and body["visitor"] == done
    m = await people["owner"].ask("visitor_decide", {"visitorId": visit["visitorId"], "decision": "deny"})
    assert m["type"] == "error" and m["payload"]["code"] == "conflict" and m["payload"]["visitor"] == done
    assert len(door.ran) == 1
    for p in people.values():
        await p.close()


async def test_deny_by_websocket(door, belayd):
    user, other = await belayd.user("ctl"), await belayd.user()
    visit = await door.rings()
    assert visit["name"] is visit["snapshotUrl"] is visit["data"] is None
    m = await user.ask("visitor_decide", {"visitorId": visit["visitorId"], "decision": "deny"})
    assert m["type"] == "visitor_decided" and m["payload"]["status"] == "denied" and m["payload"]["commandId"] is None
    assert (await other.expect("visitor_decided"))["payload"] == m["payload"]
    await user.nothing("visitor_decided", 0.05)         # who decided was answered, and is not told again
    assert door.ran == []
    for bad in ({"visitorId": "x", "decision": "deny"}, {"visitorId": visit["visitorId"], "decision": "maybe"}, {"decision": "deny"}):
        m = await user.ask("visitor_decide", bad)
        assert m["type"] == "error" and m["payload"]["code"] == "invalid_payload"
    m = await user.ask("visitor_decide", {"visitorId": str(uuid.uuid4()), "decision": "deny"})
    assert m["payload"]["code"] == "not_found"
    for c in (user, other):
        await c.close()


async def test_who_may_decide(door, belayd):
    visit = await door.rings()
    for who, what, expected in (("vw", "approve", 403), ("vw", "deny", 403), ("nobody", "deny", 403), ("oth", "approve", 403)):
        status, body = await door.decide(visit, what, token(who))
        assert status == expected and body["error"]["code"] == "no_access", who
    status, body = await door.decide(visit, "deny", token("u1", "t2"))
    assert status == 404 and body["error"]["code"] == "not_found"
    for who, what in (("unl", "approve"), ("oth", "deny"), ("adm", "approve")):
        visit = await door.rings()
        status, body = await door.decide(visit, what, token(who))
        assert status == 200, who
    visit = await door.rings()
    status, body = await belayd.rest("POST", f"/api/visitor/{visit['visitorId']}/approve?tenantId=t1", bearer=belayd.service_key)
    assert status == 200 and body["visitor"]["decidedBy"] == "key:backend"


async def test_the_same_visit_twice_is_one(door, belayd):
    other = await Door(belayd, "other-" + uuid.uuid4().hex[:8]).open()
    user = await belayd.user("ctl")
    id = str(uuid.uuid4())
    for _ in range(3):
        await door.client.send("visitor", {"visitorId": id, "name": "Ann"}, "x")
        await eventually(lambda: [m for m in door.client.kept if m.get("re") == "x"])
        assert door.client.kept.pop()["type"] == "ok"
    await user.expect("new_visitor")
    await user.nothing("new_visitor", 0.05)
    assert [v["visitorId"] for v in await door.visitors()] == [id]
    # Another door can't speak for that visit.
    await other.client.send("visitor", {"visitorId": id, "name": "Eve"}, "y")
    m = await eventually(lambda: [m for m in other.client.kept if m.get("re") == "y"])
    assert m[0]["type"] == "error" and m[0]["payload"]["code"] == "conflict"
    assert (await door.visitors())[0]["name"] == "Ann"
    await other.client.close()
    await user.close()


async def test_list(door):
    visits = [await door.rings(name=f"n{i}") for i in range(5)]
    await door.decide(visits[1], "approve")
    await door.decide(visits[3], "deny")
    assert [v["name"] for v in await door.visitors()] == ["n4", "n3", "n2", "n1", "n0"]
    for status, names in (("pending", ["n4", "n2", "n0"]), ("approved", ["n1"]), ("denied", ["n3"])):
        for who in (token(), token("vw"), token("boss", role="admin")):
            assert [v["name"] for v in await door.visitors(f"&status={status}", who)] == names
    assert await door.visitors(bearer=token("nobody")) == []
    assert await door.visitors(bearer=token("u1", "t2")) == []
    got, cursor = [], ""
    while cursor is not None:
        _, body = await door.belayd.rest("GET", "/api/visitor?limit=2" + (f"&cursor={cursor}" if cursor else ""))
        got += [v["name"] for v in body["visitors"] if v["deviceId"] == door.name]
        cursor = body["nextCursor"]
    assert got == ["n4", "n3", "n2", "n1", "n0"]
    for query, field in (("status=x", "status"), ("limit=0", "limit"), ("cursor=x", "cursor")):
        status, body = await door.belayd.rest("GET", "/api/visitor?" + query)
        assert status == 422 and body["error"]["field"] == field


async def test_bad_visitors(door):
    for bad, field in (({"name": 5}, "payload.name"), ({"name": "x" * 201}, "payload.name"), ({"snapshotUrl": "javascript:x"}, "payload.snapshotUrl"),
                       ({"visitorId": "x"}, "payload.visitorId"), ({"data": []}, "payload.data")):
        await door.client.send("visitor", bad, "b")
        m = (await eventually(lambda: [m for m in door.client.kept if m.get("re") == "b"]))[0]
        door.client.kept.remove(m)
        assert m["payload"]["code"] == "invalid_payload" and m["payload"]["field"] == field
    assert await door.visitors() == []


async def test_approval_of_an_offline_door(belayd):
    """The decision stands, and the command that could not be sent says so: nothing opens later."""
    door = await Door(belayd, "off-" + uuid.uuid4().hex[:8]).open()
    visit = await door.rings()
    await door.client.close()
    await eventually(lambda: offline(belayd, door.name))
    status, body = await door.decide(visit, "approve")
    assert status == 200 and body["visitor"]["status"] == "approved"
    _, body = await belayd.rest("GET", f"/api/command/{body['visitor']['commandId']}")
    assert (body["command"]["status"], body["command"]["outcome"], body["command"]["safeToRetry"]) == ("expired", "not_sent", True)


async def offline(belayd, name):
    _, body = await belayd.rest("GET", f"/api/device/{name}")
    return body["device"]["presence"]["status"] == "offline"


async def test_fifty_decide_at_once(start):
    """Over two gateways, by REST and WebSocket: one decision, one command, and all others are shown who was faster."""
    belayd = start(workers=2)
    door = await Door(belayd, "gate").open()
    sockets = [await belayd.user(f"boss{i}", "t1", "admin") for i in range(10)]
    for round in range(3):
        visit = await door.rings()

        async def by_rest(i):
            status, body = await door.decide(visit, "approve", token(f"admin{i}", role="admin"))
            return status, body.get("visitor")

        async def by_socket(c):
            m = await c.ask("visitor_decide", {"visitorId": visit["visitorId"], "decision": "approve"})
            return (200, m["payload"]) if m["type"] == "visitor_decided" else (409, m["payload"]["visitor"])

        answers = await asyncio.gather(*[by_rest(i) for i in range(40)], *[by_socket(c) for c in sockets])
        assert sorted(s for s, _ in answers) == [200] + [409] * 49
        won = next(v for s, v in answers if s == 200)
        assert all(v == won for _, v in answers)
        await eventually(lambda: len(door.ran) == round + 1)
        assert door.ran[round] == won["commandId"]
        _, body = await belayd.rest("GET", "/api/device/gate/commands")
        assert len(body["commands"]) == round + 1
    for c in sockets + [door.client]:
        await c.close()
