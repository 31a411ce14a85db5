"""REST: every route in all its answers, and HTTP itself on raw sockets (protocol section 6)."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

import aiohttp
import pytest

from belay import PATIENCE, eventually, free_port, run_device, token

TOP = Path(__file__).resolve().parents[2]
RFC3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
UUID7 = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")

DEVICE = {"deviceId", "tenantId", "ownerId", "name", "deviceType", "tags", "metadata", "settings", "state", "createdAt",
          "updatedAt", "presence"}
PRESENCE = {"status", "transport", "epoch", "since", "lastSeen", "reason"}
EVENT = {"eventId", "cursor", "deviceId", "event", "data", "actor", "at", "receivedAt"}
COMMAND = {"commandId", "deviceId", "command", "params", "status", "late", "outcome", "safeToRetry", "requestedBy", "createdAt",
           "sentAt", "acceptedAt", "finishedAt", "timeoutMs", "queueMs", "attempt", "result", "error", "cancelledBy", "trace"}


def error_of(body, code, field=None):
    """The one form that errors have."""
    assert set(body) == {"error"}, body
    error = body["error"]
    assert set(error) <= {"code", "message", "field"} and error["code"] == code and error["message"], body
    assert error.get("field") == field, body
    return True


def routes():
    """(method, path, who) of src/http/routes.def, so that no route is left out."""
    text = (TOP / "src/http/routes.def").read_text()
    return re.findall(r'^ROUTE\(\w+, (\w+), "([^"]+)", (\w+)', text, re.M)


# --- devices


async def test_register(belayd):
    status, body = await belayd.rest("POST", "/api/device/register", {
        "deviceId": "reg-1", "name": "Front döör \U0001F6AA", "deviceType": "door-lock", "tags": ["a", "b"], "metadata": {"x": [1, None]},
        "settings": {"relock": 5}})
    assert status == 201 and set(body) == {"device", "deviceToken"}
    assert re.fullmatch(r"bdt_[A-Za-z0-9_-]{43}", body["deviceToken"])
    d = body["device"]
    assert set(d) == DEVICE and set(d["presence"]) == PRESENCE
    assert (d["deviceId"], d["tenantId"], d["ownerId"], d["name"]) == ("reg-1", "t1", "u1", "Front döör \U0001F6AA")
    assert (d["tags"], d["metadata"], d["settings"], d["state"]) == (["a", "b"], {"x": [1, None]}, {"relock": 5}, None)
    assert RFC3339.match(d["createdAt"]) and d["updatedAt"] == d["createdAt"]
    assert d["presence"] == {"status": "unknown", "transport": None, "epoch": 0, "since": None, "lastSeen": None, "reason": None}
    status, again = await belayd.rest("POST", "/api/device/register", {"deviceId": "reg-1", "name": "x"})
    assert status == 409 and error_of(again, "conflict", "deviceId")
    # The token is told this once.
    status, shown = await belayd.rest("GET", "/api/device/reg-1")
    assert body["deviceToken"] not in json.dumps(shown)
    # Defaults.
    status, body = await belayd.rest("POST", "/api/device/register", {"name": "n"})
    d = body["device"]
    assert status == 201 and UUID7.match(d["deviceId"])
    assert (d["deviceType"], d["tags"], d["metadata"], d["settings"]) == ("door-lock", [], {}, {})
    # The same id in another tenant is another device.
    status, body = await belayd.rest("POST", "/api/device/register", {"deviceId": "reg-1", "name": "x"}, token("u1", "t2"))
    assert status == 201 and body["device"]["tenantId"] == "t2"


@pytest.mark.parametrize("body, field", [
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"name": 5}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": "n", "deviceId": "has space"}, "deviceId"),
    ({"name": "n", "deviceId": "x" * 65}, "deviceId"),
    ({"name": "n", "deviceId": ""}, "deviceId"),
    ({"name": "n", "deviceType": "9"}, "deviceType"),
    ({"name": "n", "tags": "a"}, "tags"),
    ({"name": "n", "tags": ["x" * 65]}, "tags[0]"),
    ({"name": "n", "metadata": []}, "metadata"),
    ({"name": "n", "settings": "x"}, "settings"),
])
async def test_register_refuses(belayd, body, field):
    status, answer = await belayd.rest("POST", "/api/device/register", body)
    assert status == 422 and error_of(answer, "invalid_payload", field)


async def test_register_by_service(belayd):
    key = belayd.service_key
    status, body = await belayd.rest("POST", "/api/device/register", {"deviceId": "svc-1", "name": "n"}, key)
    assert status == 422 and error_of(body, "invalid_payload", "tenantId")
    for where in ({"tenantId": "t3"}, {}):
        query = "" if where else "?tenantId=t3"
        status, body = await belayd.rest("POST", "/api/device/register" + query,
                                         {"deviceId": f"svc-{len(where)}", "name": "n", "ownerId": "u9", **where}, key)
        assert status == 201 and (body["device"]["tenantId"], body["device"]["ownerId"]) == ("t3", "u9")
    status, body = await belayd.rest("GET", "/api/device", bearer=token("u9", "t3"))
    assert [d["deviceId"] for d in body["devices"]] == ["svc-0", "svc-1"]
    # Nobody else chooses a tenant or an owner.
    named = {"name": "n", "tenantId": "t3", "ownerId": "u9"}
    status, body = await belayd.rest("POST", "/api/device/register", named, token("u1", "t4"))
    assert status == 403 and error_of(body, "no_access", "tenantId")
    status, body = await belayd.rest("POST", "/api/device/register", {**named, "tenantId": "t4"}, token("u1", "t4"))
    assert status == 201 and (body["device"]["tenantId"], body["device"]["ownerId"]) == ("t4", "u1")


async def ids(belayd, bearer, query="", limit=None):
    """All pages of the list, and that they are as long as asked."""
    out, cursor = [], ""
    while True:
        q = "&".join(x for x in (query, f"limit={limit}" if limit else "", f"cursor={cursor}" if cursor else "") if x)
        status, body = await belayd.rest("GET", "/api/device?" + q, bearer=bearer)
        assert status == 200 and set(body) == {"devices", "nextCursor"}, body
        assert len(body["devices"]) <= (limit or 50)
        out += [d["deviceId"] for d in body["devices"]]
        cursor = body["nextCursor"]
        if cursor is None:
            return out


async def test_device_list(belayd):
    me, admin = token("lister", "t5"), token("boss", "t5", "admin")
    for i in range(7):
        bdt = await belayd.register(f"l-{i}", me, name=f"Door {i} Ünï", deviceType="door-lock" if i % 2 else "charger",
                                    tags=["even"] if i % 2 == 0 else ["odd", "x"])
    await belayd.register("other", token("another", "t5"))
    assert await ids(belayd, me) == [f"l-{i}" for i in range(7)]
    assert await ids(belayd, me, limit=1) == [f"l-{i}" for i in range(7)]
    assert await ids(belayd, me, limit=3) == [f"l-{i}" for i in range(7)]
    assert await ids(belayd, admin, limit=2) == [f"l-{i}" for i in range(7)] + ["other"]
    assert await ids(belayd, token("nobody", "t5")) == []
    assert await ids(belayd, token("nobody", "never-seen")) == []
    assert await ids(belayd, me, "type=charger") == ["l-0", "l-2", "l-4", "l-6"]
    assert await ids(belayd, me, "tag=odd", 1) == ["l-1", "l-3", "l-5"]
    assert await ids(belayd, me, "tag=od") == []
    assert await ids(belayd, me, "q=door%204") == ["l-4"]
    assert await ids(belayd, me, "q=L-2") == ["l-2"]
    assert await ids(belayd, me, "q=%25") == []
    assert await ids(belayd, me, "type=charger&tag=even&q=6") == ["l-6"]
    device = await belayd.device("l-6", bdt)
    assert await ids(belayd, me, "status=online") == ["l-6"]
    assert await ids(belayd, me, "status=offline") == [f"l-{i}" for i in range(6)]
    assert await ids(belayd, me, "status=unknown", 2) == [f"l-{i}" for i in range(6)]
    assert await ids(belayd, me, "status=suspect") == []
    await device.close()
    await eventually(lambda: all_offline(belayd, me))
    assert await ids(belayd, me, "status=unknown") == [f"l-{i}" for i in range(6)]
    for query, field in (("limit=0", "limit"), ("limit=501", "limit"), ("limit=x", "limit"), ("limit=-1", "limit"),
                         ("status=up", "status")):
        status, body = await belayd.rest("GET", "/api/device?" + query, bearer=me)
        assert status == 422 and error_of(body, "invalid_payload", field), (query, body)


async def all_offline(belayd, bearer):
    return not await ids(belayd, bearer, "status=online")


async def test_pages_are_stable_under_inserts(belayd):
    me = token("pager", "t6")
    for i in range(0, 40, 2):
        await belayd.register(f"p-{i:02}", me)
    seen, cursor, i = [], "", 1
    while cursor is not None:
        _, body = await belayd.rest("GET", "/api/device?limit=3" + (f"&cursor={cursor}" if cursor else ""), bearer=me)
        seen += [d["deviceId"] for d in body["devices"]]
        cursor = body["nextCursor"]
        await belayd.register(f"p-{i:02}", me)          # before, and behind, where we are
        await belayd.register(f"p-{40 - i:02}", me)
        i += 2
        if i > 19:
            break
    while cursor is not None:
        _, body = await belayd.rest("GET", f"/api/device?limit=3&cursor={cursor}", bearer=me)
        seen += [d["deviceId"] for d in body["devices"]]
        cursor = body["nextCursor"]
    assert seen == sorted(set(seen)), "doubled or out of order"
    assert set(f"p-{i:02}" for i in range(0, 40, 2)) <= set(seen), "missed"


async def test_device_stats(belayd):
    me, friend = token("counter", "t7"), token("friend", "t7")
    bdt = await belayd.register("s-1", me)
    await belayd.register("s-2", me, deviceType="charger")
    await belayd.register("s-3", friend)
    await belayd.rest("POST", "/api/device/s-3/share", {"userId": "counter", "permission": "view"}, friend)
    device = await belayd.device("s-1", bdt)
    status, body = await belayd.rest("GET", "/api/device/stats", bearer=me)
    assert status == 200
    assert body == {"total": 3, "owned": 2, "shared": 1, "online": 1, "offline": 2, "byType": {"charger": 1, "door-lock": 2}}
    status, body = await belayd.rest("GET", "/api/device/stats", bearer=token("nobody", "t7"))
    assert body == {"total": 0, "owned": 0, "shared": 0, "online": 0, "offline": 0, "byType": {}}
    status, body = await belayd.rest("GET", "/api/health/devices", bearer=token("nobody", "t7"))
    assert status == 200 and body == {"online": 1, "offline": 2, "byTransport": {"ws": 1, "mqtt": 0}}
    await device.close()


async def test_get_device_and_permissions(belayd):
    await belayd.register("get-1")
    for user, permission in (("v", "view"), ("c", "control"), ("a", "admin")):
        status, body = await belayd.rest("POST", "/api/device/get-1/share", {"userId": user, "permission": permission})
        assert status == 201
    for who, expected in ((token(), ["view", "control", "admin", "owner"]), (token("boss", role="admin"), ["view", "control", "admin"]),
                          (token("a"), ["view", "control", "admin"]), (token("c"), ["view", "control"]), (token("v"), ["view"]),
                          (token("be", role="service"), ["view", "control", "admin"]),
                          (token("u1", role="admin"), ["view", "control", "admin", "owner"])):
        status, body = await belayd.rest("GET", "/api/device/get-1", bearer=who)
        assert status == 200 and set(body) == {"device", "userPermissions"} and set(body["device"]) == DEVICE
        assert body["userPermissions"] == expected
    status, body = await belayd.rest("GET", "/api/device/get-1", bearer=token("stranger"))
    assert status == 403 and error_of(body, "no_access")
    for bearer, name in ((token(), "nowhere"), (token("u1", "t2"), "get-1"), (token(), "has%20space"), (token(), "x" * 65)):
        status, body = await belayd.rest("GET", f"/api/device/{name}", bearer=bearer)
        assert status == 404 and error_of(body, "not_found"), name
    status, body = await belayd.rest("GET", "/api/device/get-1?tenantId=t1", bearer=belayd.service_key)
    assert status == 200 and "owner" not in body["userPermissions"]


async def test_presence(start):
    belayd = start({"limits.heartbeat": "3s"})        # a device is suspect for so long, and has to be seen as such
    bdt = await belayd.register("p-1")

    async def presence():
        _, body = await belayd.rest("GET", "/api/device/p-1")
        return body["device"]["presence"]

    assert (await presence())["status"] == "unknown"
    device = await belayd.device("p-1", bdt)
    p = await presence()
    assert p["status"] == "online" and p["transport"] == "ws" and p["epoch"] == device.connected["payload"]["epoch"]
    assert RFC3339.match(p["since"]) and p["lastSeen"] >= p["since"] and p["reason"] is None
    # A device that only answers pings is heard of.
    reader = asyncio.ensure_future(device.ws.recv())

    async def heard_of():
        return (await presence())["lastSeen"] > p["lastSeen"]

    await eventually(heard_of)
    reader.cancel()
    # One that stays silent is suspect before it is given up.
    device.ws.transport.pause_reading()
    seen = []
    await eventually(lambda: watch(presence, seen))
    assert seen[-1] == "offline" and "suspect" in seen and seen == sorted(seen, key=["online", "suspect", "offline"].index)
    p = await presence()
    assert p["reason"] == "heartbeat_timeout" and p["transport"] is None and p["epoch"] == device.connected["payload"]["epoch"]
    device.ws.transport.abort()


async def test_presence_at_an_end(start):
    """Questions about a device while the end of its connection is being stored: it is online, and from some moment on offline."""
    belayd = start(workers=1)
    token = await belayd.register("end-1")
    for _ in range(10):
        device = await belayd.device("end-1", token)
        seen = []

        async def offline():
            seen.append((await belayd.rest("GET", "/api/device/end-1"))[1]["device"]["presence"])
            return seen[-1]["status"] == "offline"

        closing = asyncio.ensure_future(device.close())
        await eventually(offline)
        await closing
        assert {p["status"] for p in seen[:-1]} <= {"online"}
        assert seen[-1]["reason"] == "closed" and seen[-1]["transport"] is None
        assert (await belayd.rest("GET", "/api/device?status=online"))[1]["devices"] == []


async def watch(presence, seen):
    seen.append((await presence())["status"])
    return seen[-1] == "offline"


async def test_update_device(belayd):
    bdt = await belayd.register("put-1", settings={"a": 1})
    await belayd.rest("POST", "/api/device/put-1/share", {"userId": "ctl", "permission": "control"})
    await belayd.rest("POST", "/api/device/put-1/share", {"userId": "vw", "permission": "view"})
    await belayd.rest("POST", "/api/device/put-1/share", {"userId": "unl", "permission": "control", "commands": ["unlock_door"]})
    viewer = await belayd.user("vw")
    status, body = await belayd.rest("PUT", "/api/device/put-1", {"name": "New", "tags": ["z"], "metadata": {"m": 1}}, token("ctl"))
    assert status == 200 and set(body) == {"device"} and set(body["device"]) == DEVICE
    assert (body["device"]["name"], body["device"]["tags"], body["device"]["metadata"]) == ("New", ["z"], {"m": 1})
    assert body["device"]["settings"] == {"a": 1} and body["device"]["updatedAt"] > body["device"]["createdAt"]
    m = await viewer.expect("device_event")
    assert m["payload"]["event"] == "device_updated" and m["payload"]["data"] == {"changed": ["name", "tags", "metadata"]}
    device = await belayd.device("put-1", bdt)
    status, body = await belayd.rest("PUT", "/api/device/put-1", {"settings": {"relock": 9}})
    assert status == 200 and body["device"]["settings"] == {"relock": 9}
    m = await device.expect("command")
    assert m["payload"]["command"] == "update_settings" and m["payload"]["params"] == {"relock": 9}
    await device.send("command_ack", {"commandId": m["payload"]["commandId"], "status": "executed"})
    # Nobody with less, and not by way of a share that is limited to other commands.
    for bearer, fields in ((token("vw"), {"name": "x"}), (token("unl"), {"settings": {}}), (token("stranger"), {"name": "x"})):
        status, body = await belayd.rest("PUT", "/api/device/put-1", fields, bearer)
        assert status == 403 and error_of(body, "no_access")
    status, body = await belayd.rest("PUT", "/api/device/put-1", {"name": "By unl"}, token("unl"))
    assert status == 200
    status, body = await belayd.rest("PUT", "/api/device/put-1", {"name": ""})
    assert status == 422 and error_of(body, "invalid_payload", "name")
    status, body = await belayd.rest("PUT", "/api/device/put-1", {"name": "x"}, token("u1", "t2"))
    assert status == 404 and error_of(body, "not_found")
    _, body = await belayd.rest("GET", "/api/device/put-1")
    assert body["device"]["name"] == "By unl" and body["device"]["settings"] == {"relock": 9}
    await device.close()
    await viewer.close()


async def test_settings_wait_for_the_device(belayd):
    bdt = await belayd.register("put-2")
    await belayd.rest("PUT", "/api/device/put-2", {"settings": {"n": 1}})
    device = await belayd.device("put-2", bdt)
    assert (await device.expect("command"))["payload"]["params"] == {"n": 1}
    await device.close()


async def test_delete_device(belayd):
    bdt = await belayd.register("del-1")
    await belayd.rest("POST", "/api/device/del-1/share", {"userId": "a", "permission": "admin"})
    for bearer in (token("a"), token("boss", role="admin"), token("be", role="service"), token("stranger")):
        status, body = await belayd.rest("DELETE", "/api/device/del-1", bearer=bearer)
        assert status == 403 and error_of(body, "no_access")
    device = await belayd.device("del-1", bdt)
    waiting = asyncio.ensure_future(belayd.rest("POST", "/api/command?wait=1", {"deviceId": "del-1", "command": "x", "timeoutMs": 1000}))
    await device.expect("command")
    status, headers, raw = await belayd.rest("DELETE", "/api/device/del-1", raw=True)
    assert status == 204 and raw == b"" and "Content-Length" not in headers
    assert await device.closed() == (4011, "Credentials revoked")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/share"), ("POST", "/token"), ("GET", "/commands")):
        status, body = await belayd.rest(method, "/api/device/del-1" + path)
        assert status == 404 and error_of(body, "not_found")
    assert await ids(belayd, token(), "q=del-1") == []
    with pytest.raises(Exception) as e:
        await belayd.device("del-1", bdt)
    assert e.value.code == 1008 and e.value.reason == "Invalid token"
    # The id is free, and its epochs go on.
    bdt = await belayd.register("del-1")
    again = await belayd.device("del-1", bdt)
    assert again.connected["payload"]["epoch"] > device.connected["payload"]["epoch"]
    await again.close()
    status, body = await asyncio.wait_for(waiting, PATIENCE)
    assert status == 504 and body["command"]["status"] == "timeout" and body["command"]["outcome"] == "unconfirmed"


async def test_token_rotation(belayd):
    old = await belayd.register("rot-1")
    await belayd.rest("POST", "/api/device/rot-1/share", {"userId": "ctl", "permission": "control"})
    device = await belayd.device("rot-1", old)
    for bearer, status, code in ((token("ctl"), 403, "no_access"), (token("u1", "t2"), 404, "not_found")):
        answer = await belayd.rest("POST", "/api/device/rot-1/token", bearer=bearer)
        assert answer[0] == status and error_of(answer[1], code)
    status, body = await belayd.rest("POST", "/api/device/rot-1/token")
    assert status == 200 and set(body) == {"device", "deviceToken"} and set(body["device"]) == DEVICE
    assert body["deviceToken"] != old
    assert await device.closed() == (4011, "Credentials revoked")
    with pytest.raises(Exception) as e:
        await belayd.device("rot-1", old)
    assert e.value.reason == "Invalid token"
    device = await belayd.device("rot-1", body["deviceToken"])
    await device.close()


# --- events and commands


async def pages(belayd, path, name, bearer=None, limit=3):
    out, cursor = [], None
    while True:
        sep = "&" if "?" in path else "?"
        status, body = await belayd.rest("GET", f"{path}{sep}limit={limit}" + (f"&cursor={cursor}" if cursor else ""), bearer=bearer)
        assert status == 200 and set(body) == {name, "nextCursor"}, body
        assert len(body[name]) <= limit
        out += body[name]
        cursor = body["nextCursor"]
        if cursor is None:
            return out


async def test_events(belayd):
    bdt = await belayd.register("ev-1")
    await belayd.register("ev-2")
    await belayd.rest("POST", "/api/device/ev-1/share", {"userId": "evv", "permission": "view"})
    device = await belayd.device("ev-1", bdt)
    stamps = []
    for i in range(10):
        await device.ask("event", {"event": "motion_detected" if i % 2 else "x_own", "data": {"i": i}})
        stamps.append(time.time())
        await asyncio.sleep(0.005)
    all_of = await pages(belayd, "/api/device/ev-1/events", "events")
    assert [e["event"] for e in all_of[-3:]] == ["device_connected", "device_shared", "device_registered"]
    mine = [e for e in all_of if "i" in e["data"]]
    assert [e["data"]["i"] for e in mine] == list(range(9, -1, -1))
    for e in all_of:
        assert set(e) == EVENT and UUID7.match(e["eventId"]) and RFC3339.match(e["at"]) and e["deviceId"] == "ev-1"
        assert isinstance(e["cursor"], str) and e["cursor"]
    assert len({e["eventId"] for e in all_of}) == len(all_of) == len({e["cursor"] for e in all_of})
    assert all_of[-1]["actor"] == "u1" and mine[0]["actor"] is None
    assert [e["data"]["i"] for e in await pages(belayd, "/api/device/ev-1/events?type=x_own", "events", limit=2)] == [8, 6, 4, 2, 0]
    since, until = mine[5]["at"], mine[2]["at"]
    got = await pages(belayd, f"/api/device/ev-1/events?since={since}&until={until}", "events", limit=1)
    assert got == [e for e in all_of if since <= e["at"] < until] and got
    # In one list over all devices, for whom may view them.
    for bearer, seen in ((token("evv"), {"ev-1"}), (token("stranger"), set())):
        assert {e["deviceId"] for e in await pages(belayd, "/api/events", "events", bearer, 50)} == seen
    status, body = await belayd.rest("GET", "/api/events?type=device_registered&limit=2")
    assert {e["event"] for e in body["events"]} == {"device_registered"}
    status, body = await belayd.rest("GET", "/api/device/ev-1/events", bearer=token("stranger"))
    assert status == 403 and error_of(body, "no_access")
    for query, field in (("since=yesterday", "since"), ("until=1", "until"), ("cursor=x", "cursor"), ("limit=1000", "limit")):
        for path in ("/api/device/ev-1/events", "/api/events"):
            status, body = await belayd.rest("GET", f"{path}?{query}")
            assert status == 422 and error_of(body, "invalid_payload", field)
    await device.close()


async def test_commands(belayd):
    bdt = await belayd.register("cmd-1")
    await belayd.rest("POST", "/api/device/cmd-1/share", {"userId": "vw", "permission": "view"})
    status, body = await belayd.rest("POST", "/api/command", {"deviceId": "cmd-1", "command": "x"})
    assert status == 409 and error_of(body, "device_offline")
    status, body = await belayd.rest("POST", "/api/command", {"deviceId": "cmd-1", "command": "x", "queueMs": 60000, "params": {"n": 0}})
    assert status == 202 and set(body) == {"command"} and set(body["command"]) == COMMAND
    queued = body["command"]
    assert (queued["status"], queued["outcome"], queued["safeToRetry"]) == ("queued", "not_sent", True)
    status, body = await belayd.rest("DELETE", f"/api/command/{queued['commandId']}", bearer=token("vw"))
    assert status == 403 and error_of(body, "no_access")
    status, body = await belayd.rest("DELETE", f"/api/command/{queued['commandId']}")
    assert status == 200 and body["command"]["status"] == "cancelled" and set(body["command"]) == COMMAND
    status, body = await belayd.rest("DELETE", f"/api/command/{queued['commandId']}")
    assert status == 409 and error_of(body, "conflict")
    device = await belayd.device("cmd-1", bdt)
    await run_device(device, lambda p: {"commandId": p["commandId"], "status": "failed", "error": "jammed"}
                     if p["command"] == "fail" else None if p["command"] == "sleep" else {"commandId": p["commandId"], "status": "executed"})
    status, body = await belayd.rest("POST", "/api/command/open?wait=1", {"deviceId": "cmd-1"})
    assert status == 200 and body["command"]["command"] == "unlock_door" and body["command"]["status"] == "executed"
    status, body = await belayd.rest("POST", "/api/command?wait=1", {"deviceId": "cmd-1", "command": "fail"})
    assert status == 200 and body["command"]["error"] == {"code": "device_error", "message": "jammed"}
    status, body = await belayd.rest("POST", "/api/command?wait=1", {"deviceId": "cmd-1", "command": "sleep", "timeoutMs": 1000})
    assert status == 504 and body["command"]["status"] == "timeout" and set(body["command"]) == COMMAND
    got = await pages(belayd, "/api/device/cmd-1/commands", "commands", token("vw"), 2)
    assert [c["command"] for c in got] == ["sleep", "fail", "unlock_door", "x"]
    status, body = await belayd.rest("GET", f"/api/command/{got[2]['commandId']}", bearer=token("vw"))
    assert status == 200 and body == {"command": got[2]} and [t["step"] for t in got[2]["trace"]][0] == "stored"
    for path, bearer, expected in (
            (f"/api/command/{got[0]['commandId']}", token("stranger"), (403, "no_access")),
            (f"/api/command/{got[0]['commandId']}", token("u1", "t2"), (404, "not_found")),
            (f"/api/command/{uuid.uuid4()}", token(), (404, "not_found")),
            ("/api/command/nonsense", token(), (404, "not_found")),
            ("/api/device/cmd-1/commands", token("stranger"), (403, "no_access"))):
        status, body = await belayd.rest("GET", path, bearer=bearer)
        assert status == expected[0] and error_of(body, expected[1])
    status, body = await belayd.rest("POST", "/api/command", {"deviceId": "cmd-1", "command": "x"}, token("vw"))
    assert status == 403 and error_of(body, "no_access")
    # Twice with one key.
    for key, fields, expected in (("k1", {"command": "a"}, 202), ("k1", {"command": "a"}, 202), ("k1", {"command": "b"}, 409)):
        status, body = await belayd.rest("POST", "/api/command", {"deviceId": "cmd-1", **fields}, headers={"Idempotency-Key": key})
        assert status == expected
        first = body["command"]["commandId"] if key == "k1" and status == 202 and "first" not in locals() else locals().get("first")
        if status == 202:
            assert body["command"]["commandId"] == first
    await device.close()


async def test_queue_is_bounded(start):
    belayd = start({"limits.message_rate": 100000, "limits.message_burst": 100000}, store="memory:")
    await belayd.register("q-1")
    user = await belayd.user()
    for i in range(1000):
        await user.send("command", {"deviceId": "q-1", "command": "x", "queueMs": 60000}, str(i))
    assert (await user.expect("command_status", PATIENCE, lambda m: m.get("re") == "999"))["payload"]["status"] == "queued"
    status, headers, raw = await belayd.rest("POST", "/api/command", {"deviceId": "q-1", "command": "x", "queueMs": 60000}, raw=True)
    assert status == 429 and error_of(json.loads(raw), "too_many") and int(headers["Retry-After"]) >= 1
    await user.close()


# --- telemetry


async def test_telemetry_by_rest(belayd):
    for d in ("tm-1", "tm-2"):
        await belayd.register(d)
    await belayd.rest("POST", "/api/device/tm-1/share", {"userId": "vw", "permission": "admin"})
    owner, viewer, admin, stranger, foreign = [await belayd.user(*w) for w in (
        ("u1", "t1"), ("vw", "t1"), ("boss", "t1", "admin"), ("stranger", "t1"), ("u1", "t2"))]
    post = "/api/telemetry"
    status, body = await belayd.rest("POST", post, {"deviceId": "tm-1", "at": "2026-01-31T12:00:00.123Z", "data": {"t": 1}})
    assert status == 202 and body == {"accepted": 1}
    for v in (owner, viewer, admin):
        m = await v.expect("telemetry")
        assert m == {"type": "telemetry", "payload": {"deviceId": "tm-1", "epoch": 0, "at": "2026-01-31T12:00:00.123Z", "data": {"t": 1}}}
    status, body = await belayd.rest("POST", f"{post}?tenantId=t1", [{"deviceId": "tm-1", "data": {"n": 2}}, {"deviceId": "tm-2", "data": {"n": 3}}],
                                     belayd.service_key)
    assert status == 202 and body == {"accepted": 2}
    for v in (owner, admin):
        assert [(await v.expect("telemetry"))["payload"]["data"]["n"] for _ in "12"] == [2, 3]
    m = await viewer.expect("telemetry")
    assert m["payload"]["data"] == {"n": 2} and RFC3339.match(m["payload"]["at"])
    # It is of no connection, also while there is one.
    await belayd.register("tm-3")
    _, body = await belayd.rest("POST", "/api/device/tm-3/token")
    device = await belayd.device("tm-3", body["deviceToken"])
    status, body = await belayd.rest("POST", post, {"deviceId": "tm-3", "data": {"n": 4}})
    assert status == 202 and (await owner.expect("telemetry"))["payload"]["epoch"] == 0 < device.connected["payload"]["epoch"]
    await admin.expect("telemetry")
    await device.close()
    status, body = await belayd.rest("POST", post, [])
    assert status == 202 and body == {"accepted": 0}
    # All or nothing, and only by the owner or a back end.
    good = {"deviceId": "tm-1", "data": {"x": 9}}
    for bad, bearer, expected in (
            ([good, {"deviceId": "tm-1"}], token(), (422, "invalid_payload", "[1].data")),
            ([good, 5], token(), (422, "invalid_payload", "[1]")),
            ({"data": {}}, token(), (422, "invalid_payload", "deviceId")),
            ("x", token(), (422, "invalid_payload", "body")),
            (None, token(), (422, "invalid_payload", "deviceId")),
            ([good, {"deviceId": "nowhere", "data": {}}], token(), (404, "not_found", "[1].deviceId")),
            ([good], token("vw"), (403, "no_access", "[0].deviceId")),
            (good, token("boss", role="admin"), (403, "no_access", "deviceId")),
            (good, token("u1", "t2"), (404, "not_found", "deviceId")),
            (good, belayd.service_key, (422, "invalid_payload", "tenantId")),
            ([{**good, "tenantId": "t1"}, {**good, "tenantId": "t2"}], belayd.service_key, (422, "invalid_payload", "tenantId"))):
        status, body = await belayd.rest("POST", post, bad, bearer)
        assert (status, body["error"]["code"], body["error"].get("field")) == expected, (bad, body)
    status, body = await belayd.rest("POST", post, [{**good, "tenantId": "t1"}] * 2, belayd.service_key)
    assert status == 202
    assert [(await owner.expect("telemetry"))["payload"]["data"] for _ in "12"] == [{"x": 9}] * 2
    for v in (stranger, foreign, owner):
        await v.nothing("telemetry", 0.1)
    _, body = await belayd.rest("GET", "/api/device/tm-1/events")
    assert "telemetry" not in {e["event"] for e in body["events"]}
    for v in (owner, viewer, admin, stranger, foreign):
        await v.close()


# --- health


async def test_health(belayd):
    for path in ("/health", "/api/health"):
        status, body = await belayd.rest("GET", path, bearer="")
        assert status == 200 and body["status"] == "ok" and body["version"] and body["uptimeMs"] >= 0
    assert (await belayd.rest("GET", "/health/ready", bearer=""))[0] == 200
    for path in ("/api/health/detailed", "/api/health/devices", "/api/health/metrics"):
        assert (await belayd.rest("GET", path, bearer=""))[0] == 401
    status, body = await belayd.rest("GET", "/api/health/detailed")
    assert status == 200 and body["status"] == "ok"
    for part in ("store", "redis", "mqtt", "feed", "workers", "memory"):
        assert body[part]["status"] in ("ok", "off"), part
    assert body["store"]["status"] == "ok" and body["store"]["latencyMs"] >= 0
    assert body["redis"]["status"] == body["mqtt"]["status"] == body["feed"]["status"] == "off"
    bdt = await belayd.register("hm-1", token("h", "t8"))
    device = await belayd.device("hm-1", bdt)
    await run_device(device)
    for _ in range(5):
        await belayd.rest("POST", "/api/command?wait=1", {"deviceId": "hm-1", "command": "x"}, token("h", "t8"))
    status, body = await belayd.rest("GET", "/api/health/metrics", bearer=token("h", "t8"))
    assert status == 200 and body["commands"]["created"] == body["commands"]["executed"] == 5
    assert 0 < body["commands"]["latencyMs"]["p50"] <= body["commands"]["latencyMs"]["p90"] <= body["commands"]["latencyMs"]["p99"]
    assert body["rates"]["eventsPerSecond"] > 0 and body["rates"]["errorsPerSecond"] >= 0
    await device.close()


async def test_metrics(belayd):
    for bearer, status in (("", 401), (token(), 403), (token(role="admin"), 403), (token(role="service"), 403)):
        assert (await belayd.rest("GET", "/metrics", bearer=bearer))[0] == status
    status, headers, raw = await belayd.rest("GET", "/metrics", bearer=belayd.service_key, raw=True)
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert shutil.which("promtool"), "Debian package prometheus"
    check = subprocess.run(["promtool", "check", "metrics"], input=raw, capture_output=True)
    assert check.returncode == 0, check.stderr.decode() + check.stdout.decode()
    names = {line.split("{")[0].split()[0] for line in raw.decode().splitlines() if not line.startswith("#")}
    assert all(n.startswith("belay_") for n in names)
    assert {"belay_command_seconds_bucket", "belay_revocation_lag_seconds_count", "belay_devices_online"} <= names


async def test_admin_listener(start):
    port = free_port()
    belayd = start({"server.admin_listen": f"127.0.0.1:{port}"})
    async with aiohttp.ClientSession() as s:
        for path, expected in (("/metrics", 200), ("/health", 200), ("/api/health", 200), ("/health/ready", 200),
                               ("/api/device", 404), ("/ws", 404), ("/", 404)):
            async with s.get(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token()}"}) as r:
                assert r.status == expected, path


# --- who may ask, what may be asked


async def test_every_route_wants_a_token(belayd):
    some = {":id": "x", ":userId": "u"}
    for method, path, who in routes():
        if who in ("SOCKET", "ANYONE"):
            continue
        for name, value in some.items():
            path = path.replace(name, value)
        for bearer, code in (("", "missing_token"), ("x", "invalid_token"), (token(ttl=-60), "token_expired")):
            status, headers, raw = await belayd.rest(method, path, bearer=bearer, raw=True)
            assert status == 401 and error_of(json.loads(raw), code) and headers["WWW-Authenticate"].startswith("Bearer"), (method, path)
        if who in ("SERVICE", "METRICS", "DEVICE"):
            status, body = await belayd.rest(method, path, {} if method in ("POST", "PUT") else None, token())
            assert status == 403 and error_of(body, "no_access"), (method, path)
        status, body = await belayd.rest(method, path, bearer=token(user=None, device="x"))
        if who in ("DEVICE", "USER_DEVICE"):		# which may, were it registered
            assert status == 401 and error_of(body, "invalid_token"), (method, path)
        else:
            assert status == 403 and error_of(body, "no_access"), (method, path)


async def test_methods(belayd):
    paths = {}
    for method, path, who in routes():
        if who != "SOCKET":
            paths.setdefault(path.replace(":id", "x").replace(":userId", "u"), set()).add(method)
    # A fixed segment hides a parameter of the same place for the methods that it has.
    for path, methods in paths.items():
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
            if method in methods or path in ("/api/device/register", "/api/device/stats", "/api/command/open"):
                continue
            status, headers, raw = await belayd.rest(method, path, raw=True)
            assert status == 405 and error_of(json.loads(raw), "method_not_allowed"), (method, path)
            allow = set(headers["Allow"].split(", "))
            assert methods <= allow and allow - methods <= {"HEAD", "OPTIONS"}, (path, allow)
            assert ("HEAD" in allow) == ("GET" in methods)
        status, headers, raw = await belayd.rest("OPTIONS", path, bearer="", raw=True)
        assert status == 204 and methods <= set(headers["Allow"].split(", ")) and raw == b""
    for path in ("/ws", "/"):
        for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
            c = await Raw.open(belayd)
            await c.send(head(method, path))
            answer, body = (await c.end()).split(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 405 ") and re.findall(rb"\r\nAllow: ([^\r]*)", answer) == [b"GET"], answer
            assert (body == b"") == (method == "HEAD")
    for path in ("/api/nowhere", "/api", "/api/device/x/y/z", "/api//device", "/v1/websocket", "/api/device/"):
        status, body = await belayd.rest("GET", path)
        assert status == 404 and error_of(body, "not_found"), path


def cors(headers):
    return {k.lower(): v for k, v in headers.items() if k.lower().startswith("access-control-")}


PREFLIGHT = {"access-control-allow-headers": "authorization,content-type", "access-control-max-age": "600"}


async def test_pages_of_other_origins(belayd, start):
    """What the Fetch standard's CORS check wants, from a daemon for all pages and from one for those of two origins."""
    page, other = "https://dash.example", "https://evil.example"
    asks = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization,content-type"}
    exposed = {"access-control-expose-headers": "Allow, Retry-After"}
    for daemon, allowed in ((belayd, "*"), (start({"auth.origins": f"https://a.example,{page}", "server.admin_listen":
                                                   f"127.0.0.1:{free_port()}"}, workers=1), page)):
        await daemon.register("cors-1")
        for path, status, bearer in (("/api/device/cors-1", 200, None), ("/api/device/none", 404, None), ("/api/device", 401, ""),
                                     ("/health", 200, ""), ("/api/nowhere", 404, "")):
            got = await daemon.rest("GET", path, bearer=bearer, headers={"Origin": page}, raw=True)
            assert got[0] == status and cors(got[1]) == {"access-control-allow-origin": allowed, **exposed}, (path, got)
            got = await daemon.rest("GET", path, bearer=bearer, raw=True)
            assert got[0] == status and cors(got[1]) == {}
        got = await daemon.rest("OPTIONS", "/api/device/cors-1", bearer="", headers={"Origin": page, **asks}, raw=True)
        assert got[0] == 204 and cors(got[1]) == {"access-control-allow-origin": allowed, **exposed, **PREFLIGHT,
                                                  "access-control-allow-methods": "GET, HEAD, PUT, DELETE, OPTIONS"}
        # Not for the browser's own credentials, and not beyond the answer that it is for.
        assert "access-control-allow-credentials" not in cors(got[1])
        c = await Raw.open(daemon)
        await c.send(head(path="/health", extra=f"Origin: {page}\r\n") + head(path="/health"))
        assert [cors((await c.response())[1]) != {} for _ in "12"] == [True, False]
        c.close()
    got = await daemon.rest("GET", "/api/device/cors-1", headers={"Origin": other}, raw=True)
    assert got[0] == 200 and cors(got[1]) == {} and got[1]["Vary"] == "Origin"
    for origin in (other, "null", page + ".evil.example", "http://dash.example"):
        got = await daemon.rest("OPTIONS", "/api/device", bearer="", headers={"Origin": origin, **asks}, raw=True)
        assert got[0] == 204 and cors(got[1]) == {}, origin
    admin = daemon.settings["server.admin_listen"]
    async with aiohttp.ClientSession() as s, s.get(f"http://{admin}/metrics", headers={"Origin": page}) as r:
        assert r.status == 200 and cors(r.headers) == {}
    c = await Raw.open(belayd)
    await c.send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    status, headers, _ = await c.response()
    assert status == 204 and set(headers["allow"].split(", ")) == {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"}
    c.close()


async def test_head(belayd):
    await belayd.register("head-1")
    for path in ("/health", "/api/device/head-1", "/api/device", "/api/events", "/metrics", "/api/nowhere"):
        bearer = belayd.service_key if path == "/metrics" else token()
        g = await belayd.rest("GET", path, bearer=bearer, raw=True)
        h = await belayd.rest("HEAD", path, bearer=bearer, raw=True)
        assert h[0] == g[0] and h[2] == b"" and int(h[1]["Content-Length"]) > 0
        assert h[1].get("Content-Type") == g[1].get("Content-Type")


async def test_bodies(belayd):
    post = "/api/device/register"
    for data, headers, expected in (
            (b"{", {}, (400, "invalid_json")),
            (b"\xff", {}, (400, "invalid_json")),
            (b'{"name":"x"} {}', {}, (400, "invalid_json")),
            (b'{"name":"\\ud800"}', {}, (400, "invalid_json")),
            (b"[" * 40 + b"]" * 40, {}, (400, "invalid_json")),
            (b"[]", {}, (422, "invalid_payload")),
            (b'"x"', {}, (422, "invalid_payload")),
            (b'{"name":"x","name":"y"}', {}, (422, "invalid_payload")),
            (b"name=x", {"Content-Type": "application/x-www-form-urlencoded"}, (415, "unsupported_media_type")),
            (b'{"name":"x"}', {"Content-Type": "text/plain"}, (415, "unsupported_media_type")),
            (b'{"name":"x"}', {"Content-Type": "application/jsonp"}, (415, "unsupported_media_type")),
            (b'{"name":"x"}', {"Content-Type": "application/json; charset=iso-8859-1"}, (415, "unsupported_media_type")),
            (b'{"name":"x"}', {"Content-Type": 'application/json;v=1;Charset="utf-16"'}, (415, "unsupported_media_type")),
            (b'{"name":"x"}', {"Content-Encoding": "gzip"}, (415, "unsupported_media_type")),
            (b'{"name":"' + b"x" * 70000 + b'"}', {}, (413, "too_large"))):
        headers = {"Content-Type": "application/json", **headers, "Authorization": f"Bearer {token()}"}
        status, answer = await raw_http(belayd, "POST", post, data, headers)
        assert status == expected[0] and json.loads(answer)["error"]["code"] == expected[1], (data[:40], status, answer)
    for ct in ("application/json; charset=utf-8", "Application/JSON", 'application/json ;charset="UTF-8"', "application/json;v=1"):
        status, _ = await raw_http(belayd, "POST", post, b'{"name":"x"}', {"Content-Type": ct, "Authorization": f"Bearer {token()}"})
        assert status == 201, ct
    for data in ([], "x", 5):
        status, body = await belayd.rest("POST", post, data)
        assert status == 422 and error_of(body, "invalid_payload", "body"), (data, body)


async def raw_http(belayd, method, path, body, headers):
    async with aiohttp.ClientSession() as s:
        async with s.request(method, belayd.http + path, data=body, headers=headers) as r:
            return r.status, await r.text()


async def test_503_without_the_store(start):
    belayd = start(workers=1)
    await belayd.register("x")
    storage = belayd.workers("storage")
    for pid in storage.values():
        os.kill(pid, signal.SIGSTOP)
    try:
        (status, headers, raw), (detailed, body) = await asyncio.gather(
            belayd.rest("GET", "/health/ready", bearer="", raw=True), belayd.rest("GET", "/api/health/detailed"))
        assert status == 503 and int(headers["Retry-After"]) >= 1 and error_of(json.loads(raw), "unavailable")
        status = detailed
        assert status == 200 and body["status"] == "degraded" and body["store"]["status"] == "down"
        assert (await belayd.rest("GET", "/health", bearer=""))[0] == 200
    finally:
        for pid in storage.values():
            os.kill(pid, signal.SIGCONT)
    await eventually(lambda: ready(belayd))
    assert (await belayd.rest("GET", "/api/device/x"))[0] == 200


async def ready(belayd):
    return (await belayd.rest("GET", "/health/ready", bearer=""))[0] == 200


# --- HTTP on raw sockets


class Raw:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, belayd):
        return cls(*await asyncio.open_connection("127.0.0.1", belayd.port))

    async def send(self, data):
        self.writer.write(data if isinstance(data, bytes) else data.encode())
        await self.writer.drain()

    async def response(self, timeout=PATIENCE, head=False):
        """(status, headers, body) of the next response."""
        text = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), timeout)
        lines = text.decode().split("\r\n")
        status = int(lines[0].split()[1])
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:] if line)}
        body = b""
        if not head and status not in (100, 204, 304):
            body = await asyncio.wait_for(self.reader.readexactly(int(headers["content-length"])), timeout)
        return status, headers, body

    async def end(self, timeout=PATIENCE):
        """All that comes until the server closes."""
        return await asyncio.wait_for(self.reader.read(), timeout)

    def close(self):
        self.writer.close()


def head(method="GET", path="/api/device/raw-1", extra="", bearer=None, version="1.1"):
    return (f"{method} {path} HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {bearer or token()}\r\n{extra}\r\n")


async def test_keep_alive(belayd):
    await belayd.register("raw-1")
    c = await Raw.open(belayd)
    for _ in range(3):
        await c.send(head())
        status, headers, body = await c.response()
        assert status == 200 and json.loads(body)["device"]["deviceId"] == "raw-1"
        assert headers.get("connection") != "close" and "date" in headers and headers["content-type"] == "application/json"
    # Errors of a request leave the connection as it is.
    for path, expected in (("/api/device/none", 404), ("/api/nowhere", 404), ("/api/device?limit=x", 422)):
        await c.send(head(path=path))
        assert (await c.response())[0] == expected
    await c.send(head(extra="Connection: close\r\n"))
    status, headers, _ = await c.response()
    assert status == 200 and headers["connection"] == "close" and await c.end() == b""
    # HTTP/1.0 closes unless asked otherwise.
    c = await Raw.open(belayd)
    await c.send(head(version="1.0", extra="Connection: keep-alive\r\n"))
    status, headers, _ = await c.response()
    assert status == 200 and headers["connection"] == "keep-alive"
    await c.send(head(version="1.0"))
    assert (await c.response())[0] == 200 and await c.end() == b""


async def test_pipelining(belayd):
    await belayd.register("raw-2")
    c = await Raw.open(belayd)
    body = b'{"name":"n%d"}'
    wanted = []
    data = b""
    for i in range(30):
        data += head(path="/api/device/raw-2").encode() + head(path="/health").encode() + head("HEAD", "/api/device/raw-2").encode()
        b = body % i
        data += head("PUT", "/api/device/raw-2", f"Content-Type: application/json\r\nContent-Length: {len(b)}\r\n").encode() + b
        wanted.append(f"n{i}")
    await c.send(data)
    for name in wanted:
        assert (await c.response())[0] == 200
        assert json.loads((await c.response())[2])["status"] == "ok"
        assert (await c.response(head=True))[0] == 200
        status, _, answer = await c.response()
        assert status == 200 and json.loads(answer)["device"]["name"] == name
    # The same, a byte at a time.
    for i in range(0, 700):
        await c.send(data[i:i + 1])
        if i % 50 == 0:
            await asyncio.sleep(0)
    c.close()
    c = await Raw.open(belayd)
    piece = head().replace("raw-1", "raw-2").encode()
    for byte in piece:
        await c.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await c.response())[0] == 200
    c.close()


async def test_chunked_and_expect(belayd):
    await belayd.register("raw-3")
    c = await Raw.open(belayd)
    chunked = head("PUT", "/api/device/raw-3", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n")
    await c.send(chunked + '4;ext="v"\r\n{"na\r\n9\r\nme":"chun\r\n3\r\nk"}\r\n0\r\nTrailer: x\r\n\r\n' + head(path="/health"))
    status, _, body = await c.response()
    assert status == 200 and json.loads(body)["device"]["name"] == "chunk"
    assert json.loads((await c.response())[2])["status"] == "ok"
    body = b'{"name":"expected"}'
    await c.send(head("PUT", "/api/device/raw-3", f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n"))
    assert (await c.response())[0] == 100
    await c.send(body)
    status, _, answer = await c.response()
    assert status == 200 and json.loads(answer)["device"]["name"] == "expected"
    # What would be refused anyhow is refused without its body.
    await c.send(head("PUT", "/api/device/raw-3", f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n", bearer="x"))
    assert (await c.response())[0] == 401
    c.close()
    c = await Raw.open(belayd)
    await c.send(head("PUT", "/api/device/raw-3", "Content-Type: application/json\r\nContent-Length: 9000000\r\nExpect: 100-continue\r\n"))
    status, headers, answer = await c.response()
    assert status == 413 and error_of(json.loads(answer), "too_large") and headers["connection"] == "close"
    c = await Raw.open(belayd)
    await c.send(head(extra="Expect: the-unexpected\r\n"))
    assert (await c.response())[0] == 417
    # A chunked body that grows beyond the limit.
    c = await Raw.open(belayd)
    await c.send(head("PUT", "/api/device/raw-3", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"))
    for _ in range(20):
        await c.send(b"1000\r\n" + b" " * 4096 + b"\r\n")
    assert (await c.response())[0] == 413


async def test_slow_bodies(start):
    belayd = start({"limits.handshake_time": "1s"})
    await belayd.register("raw-4")
    c = await Raw.open(belayd)
    body = b'{"name":"slowly"}'
    await c.send(head("PUT", "/api/device/raw-4", f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"))
    for byte in body:
        await c.send(bytes([byte]))
        await asyncio.sleep(0.05)
    status, _, answer = await c.response()
    assert status == 200 and json.loads(answer)["device"]["name"] == "slowly"
    c.close()
    # A head that does not come to its end.
    c = await Raw.open(belayd)
    await c.send("GET /api/device HTTP/1.1\r\nHost: x\r\nX: ")
    status, headers, answer = await c.response()
    assert status == 408 and error_of(json.loads(answer), "request_timeout") and headers["connection"] == "close"
    # Nothing at all: closed without a word.
    c = await Raw.open(belayd)
    assert await c.end() == b""


SMUGGLING = [
    ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n"),
    ("the same length twice", "Content-Length: 5\r\nContent-Length: 5\r\n"),
    ("a list of lengths", "Content-Length: 5, 5\r\n"),
    ("length and chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    ("chunked and length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
    ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    ("chunked, chunked", "Transfer-Encoding: chunked, chunked\r\n"),
    ("chunked before identity", "Transfer-Encoding: chunked, identity\r\n"),
    ("xchunked", "Transfer-Encoding: xchunked\r\n"),
    ("space before the colon", "Transfer-Encoding : chunked\r\n"),
    ("folded", "Transfer-Encoding:\r\n chunked\r\n"),
    ("a vertical tab", "Transfer-Encoding: \x0bchunked\r\n"),
    ("negative", "Content-Length: -1\r\n"),
    ("plus", "Content-Length: +5\r\n"),
    ("hex", "Content-Length: 0x5\r\n"),
    ("leading zero", "Content-Length: 05\r\n"),
    ("empty", "Content-Length: \r\n"),
    ("bare LF", "X: y\nContent-Length: 5\r\n"),
    ("bare CR", "X: y\rContent-Length: 5\r\n"),
    ("NUL", "X: a\0b\r\n"),
    ("two hosts", "Host: y\r\n"),
    ("a header without a name", ": x\r\n"),
]


@pytest.mark.parametrize("what, extra", SMUGGLING, ids=[s[0] for s in SMUGGLING])
async def test_smuggling(belayd, what, extra):
    """Refused with 400, closed, and the request hidden behind is never answered."""
    c = await Raw.open(belayd)
    hidden = head("DELETE", "/api/device/smuggled")
    await c.send(head("POST", "/api/device/register", extra) + "0\r\n\r\n" + hidden)
    answer = await c.end()
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1, answer
    assert b"Connection: close" in answer and b'"code":"bad_request"' in answer


async def test_more_than_a_number_holds(belayd):
    c = await Raw.open(belayd)
    await c.send(head("POST", "/api/device/register", "Content-Length: 99999999999999999999\r\n") + head("DELETE", "/api/device/smuggled"))
    answer = await c.end()
    assert answer.startswith(b"HTTP/1.1 413 ") and answer.count(b"HTTP/1.1 ") == 1 and b'"code":"too_large"' in answer, answer


@pytest.mark.parametrize("what, chunks", [
    ("no size", "\r\nx"), ("not hexadecimal", "g\r\n"), ("negative", "-1\r\n"), ("a prefix", "0x2\r\n{}\r\n"), ("space", "2 \r\n{}\r\n"),
    ("too long", "2\r\n{}x\r\n"), ("bare LF", "2\n{}\r\n"), ("huge", "ffffffffffffffffff\r\n"), ("a bad trailer", "0\r\nX Y: z\r\n\r\n"),
])
async def test_bad_chunks(belayd, what, chunks):
    c = await Raw.open(belayd)
    await c.send(head("POST", "/api/device/register", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n") + chunks
                 + "0\r\n\r\n" + head("GET", "/health"))
    answer = await c.end()
    assert re.match(rb"HTTP/1.1 4(00|13) ", answer) and answer.count(b"HTTP/1.1 ") == 1, answer


async def test_bad_query(belayd):
    c = await Raw.open(belayd)
    await c.send(head(path="/api/device?q=%zz"))
    status, _, body = await c.response()
    assert status == 422 and error_of(json.loads(body), "invalid_payload", "q")
    c.close()
    for path in ("/api/device", "/api/events", "/api/visitor"):
        for limit in ("0", "501", "-1", "x", "1.0", "1e1", "%205", "+5", "99999999999999999999"):
            status, body = await belayd.rest("GET", f"{path}?limit={limit}")
            assert status == 422 and error_of(body, "invalid_payload", "limit"), (path, limit, status)
        for cursor in ("!!", "%20", "%c3%28", "0.5"):
            status, body = await belayd.rest("GET", f"{path}?cursor={cursor}")
            if cursor != "0.5" or path != "/api/device":    # there a cursor may be any id
                assert status == 422 and error_of(body, "invalid_payload", "cursor"), (path, cursor, status)


@pytest.mark.parametrize("request_, expected", [
    ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    ("GET /\r\n\r\n", 400),
    ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("GET /health HTTP/1.1\r\n\r\n", 400),
    ("GET health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("\x16\x03\x01", 400),
    ("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("GET /" + "a" * 13000 + " HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    ("GET /health HTTP/1.1\r\nHost: x\r\nX: " + "a" * 17000 + "\r\n\r\n", 431),
    ("GET /health HTTP/1.1\r\nHost: x\r\n" + "X: a\r\n" * 110 + "\r\n", 431),
    ("BREW /health HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ("GET http://x/health HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    ("\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n", 200),
])
async def test_heads(belayd, request_, expected):
    c = await Raw.open(belayd)
    await c.send(request_.encode("latin-1"))
    status, _, body = await c.response()
    assert status == expected, body
    if expected != 200:
        assert json.loads(body)["error"]["code"]
    c.close()
    assert (await belayd.rest("GET", "/health", bearer=""))[0] == 200
