"""Devices that sleep and wake tell telemetry, events and their state over HTTP, by their own token (protocol section 6)."""

import asyncio
import json
import os
import signal

import pytest

from belay import Refused, eventually, token

STATE, EVENTS, TELEMETRY = "/api/device/{}/state", "/api/device/{}/events", "/api/telemetry"


class Device:
    """One that has no connection."""

    def __init__(self, belayd, id, bdt, **headers):
        self.belayd, self.id, self.token, self.headers = belayd, id, bdt, headers

    async def ask(self, method, path, body=None, **kwargs):
        return await self.belayd.rest(method, path.format(self.id), body, self.token, headers=self.headers, **kwargs)

    async def state(self, body, id=None):
        return await self.ask("PUT", STATE.format(id or self.id), body)

    async def event(self, event, id=None, **body):
        return await self.ask("POST", EVENTS.format(id or self.id), {"event": event, **body})

    async def telemetry(self, data, id=None, **body):
        return await self.ask("POST", TELEMETRY, {"deviceId": id or self.id, "data": data, **body})

    async def statuses(self):
        """Of one request of each kind."""
        return [(await self.telemetry({}))[0], (await self.event("x_woke"))[0], (await self.state({}))[0]]


async def sleeper(belayd, id):
    return Device(belayd, id, await belayd.register(id))


async def shown(belayd, id):
    return (await belayd.rest("GET", f"/api/device/{id}"))[1]["device"]


async def test_what_it_tells(belayd):
    d = await sleeper(belayd, "s-1")
    owner = await belayd.user()
    assert await d.telemetry({"t": 20.5}, at="2026-01-31T12:00:00Z") == (202, {"accepted": 1})
    p = (await owner.expect("telemetry"))["payload"]
    assert p == {"deviceId": "s-1", "epoch": 0, "at": "2026-01-31T12:00:00.000Z", "data": {"t": 20.5}}
    assert await d.event("motion_detected", at="2026-01-31T12:00:00Z", data={"room": 1}) == (202, {"accepted": 1})
    m = await owner.expect("device_event", where=lambda m: m["payload"]["deviceId"] == "s-1" and m["payload"]["event"] == "motion_detected")
    assert m["cursor"] and m["payload"] == {
        "deviceId": "s-1", "epoch": 0, "event": "motion_detected", "at": "2026-01-31T12:00:00.000Z", "data": {"room": 1}}
    assert await d.state({"door": "open", "tenantId": "of no interest"}) == (204, None)
    p = (await owner.expect("device_status"))["payload"]
    assert (p["deviceId"], p["epoch"], p["data"]) == ("s-1", 0, {"door": "open", "tenantId": "of no interest"})
    assert (await shown(belayd, "s-1"))["state"] == {"door": "open", "tenantId": "of no interest"}
    events = (await belayd.rest("GET", "/api/device/s-1/events"))[1]["events"]
    assert [(e["event"], e["actor"]) for e in events] == [
        ("status_changed", None), ("motion_detected", None), ("device_registered", "u1")]
    assert events[1]["at"] == "2026-01-31T12:00:00.000Z" < events[1]["receivedAt"] and events[1]["data"] == {"room": 1}


async def test_many_values_at_once(belayd):
    d = await sleeper(belayd, "s-many")
    assert (await d.ask("POST", TELEMETRY, [{"deviceId": "s-many", "data": {"n": n}} for n in range(100)])) == (202, {"accepted": 100})


async def test_its_presence_stays(belayd):
    """It is seen; whether it is connected, since when and with which epoch is another matter."""
    d = await sleeper(belayd, "s-2")
    assert (await shown(belayd, "s-2"))["presence"] == {
        "status": "unknown", "transport": None, "epoch": 0, "since": None, "lastSeen": None, "reason": None}
    assert (await d.telemetry({}))[0] == 202
    assert (await shown(belayd, "s-2"))["presence"]["lastSeen"] is not None
    assert await d.statuses() == [202, 202, 204]
    p = (await shown(belayd, "s-2"))["presence"]
    assert p | {"lastSeen": None} == {
        "status": "unknown", "transport": None, "epoch": 0, "since": None, "lastSeen": None, "reason": None}
    events = (await belayd.rest("GET", "/api/device/s-2/events"))[1]["events"]
    assert [e["event"] for e in events] == ["status_changed", "x_woke", "device_registered"]


async def test_beside_a_connection(belayd):
    """The connection stays, and what is told without it is in force, whatever the epoch."""
    d = await sleeper(belayd, "s-3")
    first = await belayd.device("s-3", d.token)
    await first.close()
    c = await belayd.device("s-3", d.token)
    await c.ask("status", {"by": "ws"})
    before = (await shown(belayd, "s-3"))["presence"]
    assert await d.state({"by": "http"}) == (204, None) and (await d.telemetry({}))[0] == 202
    after = await shown(belayd, "s-3")
    assert after["state"] == {"by": "http"} and after["presence"] | {"lastSeen": 0} == before | {"lastSeen": 0}
    assert (await c.ask("status", {"by": "ws again"}))["type"] == "ok"
    assert (await shown(belayd, "s-3"))["state"] == {"by": "ws again"}


async def test_how_it_names_itself(belayd):
    bdt = await belayd.register("s-4")
    await belayd.register("s-4b")
    for good in (Device(belayd, "s-4", bdt, **{"X-Device-Id": "s-4"}), Device(belayd, "s-4", token(user=None, device="s-4")),
                 Device(belayd, "s-4", token(user=None, device="s-4"), **{"X-Device-Id": "s-4"})):
        assert await good.statuses() == [202, 202, 204]
    for bad in (Device(belayd, "s-4", bdt, **{"X-Device-Id": "s-4b"}), Device(belayd, "s-4", bdt, **{"X-Device-Id": "x" * 400}),
                Device(belayd, "s-4", token(user=None, device="s-4"), **{"X-Device-Id": "s-4b"})):
        assert await bad.statuses() == [401] * 3
    d = Device(belayd, "s-4", bdt)
    assert (await d.ask("PUT", STATE + "?device=s-4", {}))[0] == 204
    assert (await d.ask("PUT", STATE + "?device=s-4b", {}))[0] == 401
    assert (await d.ask("PUT", STATE + "?tenantId=t1", {}))[0] == 204
    assert (await d.ask("PUT", STATE + "?tenantId=t2", {}))[0] == 403


@pytest.mark.parametrize("wrong, code", [
    ("bdt_" + "A" * 43, "invalid_token"), ("bdt_short", "invalid_token"), (lambda: token(user=None, device="nobody"), "invalid_token"),
    (lambda: token(user=None, device="s-5", tenant="t2"), "invalid_token"), (lambda: token(user=None, device="s-5", ttl=-60), "token_expired"),
    ("", "missing_token")], ids=["unknown", "short", "unregistered", "another_tenants", "expired", "none"])
async def test_wrong_tokens(belayd, wrong, code):
    await belayd.rest("POST", "/api/device/register", {"deviceId": "s-5", "name": "s"})
    d = Device(belayd, "s-5", wrong() if callable(wrong) else wrong)
    for method, path, body in (("PUT", STATE, {}), ("POST", EVENTS, {"event": "x_y"}), ("POST", TELEMETRY, {"deviceId": "s-5", "data": {}})):
        status, head, answer = await d.ask(method, path, body, raw=True)
        assert status == 401 and json.loads(answer)["error"]["code"] == code and head["WWW-Authenticate"].startswith("Bearer"), answer
    assert (await shown(belayd, "s-5"))["state"] is None


async def test_others_devices(belayd):
    d = await sleeper(belayd, "s-6")
    await belayd.register("s-6b")
    await belayd.register("s-6c", token(tenant="t2"))
    for other, want in (("s-6b", 403), ("s-6c", 404), ("nobody", 404)):
        answers = [await d.state({}, other), await d.event("x_y", other), await d.telemetry({}, other)]
        assert [a[0] for a in answers] == [want] * 3, answers
        assert answers[2][1]["error"]["field"] == "deviceId"
    owner = await belayd.user()
    status, body = await d.ask("POST", TELEMETRY, [{"deviceId": "s-6", "data": {"n": 1}}, {"deviceId": "s-6b", "data": {}}])
    assert status == 403 and body["error"]["field"] == "[1].deviceId"
    assert (await d.telemetry({"n": 2}))[0] == 202
    assert (await owner.expect("telemetry"))["payload"]["data"] == {"n": 2}		# of the array nothing was told
    assert (await shown(belayd, "s-6b"))["state"] is None


async def test_the_same_id_in_two_tenants(belayd):
    one, two = await sleeper(belayd, "s-same"), Device(belayd, "s-same", await belayd.register("s-same", token(tenant="t2")))
    assert await one.state({"of": 1}) == await two.state({"of": 2}) == (204, None)
    assert (await shown(belayd, "s-same"))["state"] == {"of": 1}
    assert (await belayd.rest("GET", "/api/device/s-same", bearer=token(tenant="t2")))[1]["device"]["state"] == {"of": 2}


async def test_who_may(belayd):
    """The device alone tells its state and events; and it may do nothing else."""
    d = await sleeper(belayd, "s-7")
    for bearer in (None, token("a", role="admin"), token("s", role="service"), belayd.service_key):
        for method, path, body in (("PUT", STATE, {}), ("POST", EVENTS, {"event": "x_y"})):
            status, answer = await belayd.rest(method, path.format("s-7") + "?tenantId=t1", body, bearer)
            assert (status, answer["error"]["code"]) == (403, "no_access"), answer
    d_jwt = Device(belayd, "s-7", token(user=None, device="s-7"))
    for method, path in (("GET", "/api/device"), ("GET", "/api/device/s-7"), ("GET", EVENTS), ("DELETE", "/api/device/s-7"),
                         ("POST", "/api/device/s-7/token"), ("POST", "/api/ticket"), ("GET", "/v1/websocket/stats"), ("GET", "/metrics"),
                         ("POST", "/api/command"), ("GET", "/api/health/detailed")):
        body = {} if method == "POST" else None
        for device in (d, d_jwt):
            status, answer = await device.ask(method, path, body)
            assert (status, answer["error"]["code"]) == (403, "no_access"), (method, path, answer)
        assert (await belayd.rest(method, path.format("s-7"), body, "bdt_" + "A" * 43))[0] == 401
    assert (await d.ask("GET", "/health"))[0] == 200


async def test_bad_bodies(belayd):
    d = Device(belayd, "s-8", await belayd.register("s-8"), **{"Content-Type": "application/json"})
    for method, path, text, want, field in (
            ("PUT", STATE, "{", 400, None), ("PUT", STATE, "", 422, "body"), ("PUT", STATE, "[]", 422, "body"), ("PUT", STATE, "1", 422, "body"),
            ("PUT", STATE, "[" * 40 + "]" * 40, 400, None), ("POST", EVENTS, "", 422, "event"),
            ("POST", EVENTS, '{"event":"device_connected"}', 422, "event"), ("POST", EVENTS, '{"event":"x_y","at":"now"}', 422, "at"),
            ("POST", EVENTS, '{"event":"x_y","data":[]}', 422, "data"), ("POST", TELEMETRY, "{}", 422, "deviceId"),
            ("POST", TELEMETRY, '{"deviceId":"s-8"}', 422, "data"), ("PUT", STATE, json.dumps({"x": "y" * 70000}), 413, None)):
        status, answer = await d.ask(method, path, data=text)
        assert status == want and answer["error"].get("field") == field, (path, text[:50], answer)
    assert (await d.ask("PUT", STATE, data=" {} "))[0] == 204
    d.headers = {"Content-Type": "text/plain"}
    assert (await d.ask("PUT", STATE, data="{}"))[0] == 415
    assert (await d.ask("GET", STATE))[0] == (await d.ask("POST", STATE, data="{}"))[0] == 405


async def test_one_connection_for_many_requests(belayd):
    """Pipelined, with tokens of several: each answer is to its own."""
    tokens = [await belayd.register(f"s-9{i}") for i in range(3)] + ["bdt_" + "A" * 43, token()]
    owner = await belayd.user()
    text = b""
    for n in range(20):
        i = n % len(tokens)
        body = json.dumps({"n": n}).encode()
        text += (f"PUT {STATE.format(f's-9{i % 3}')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tokens[i]}\r\n"
                 f"Content-Length: {len(body) if i < 3 else 0}\r\n\r\n").encode() + (body if i < 3 else b"")
    reader, writer = await asyncio.open_connection("127.0.0.1", belayd.port)
    for i in range(0, len(text), 700):
        writer.write(text[i:i + 700])
        await writer.drain()
    got = []
    for _ in range(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        got.append(int(head.split()[1]))
        length = [int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")]
        await reader.readexactly(length[0] if length else 0)
    writer.close()
    assert got == [204, 204, 204, 401, 403] * 4
    heard = [(await owner.expect("device_status"))["payload"] for _ in range(12)]
    assert [(p["deviceId"], p["data"]["n"]) for p in heard] == [(f"s-9{n % 5}", n) for n in range(20) if n % 5 < 3]


async def test_a_new_token(belayd):
    """Used over HTTP it is used: the old one is no longer good."""
    old = await belayd.register("s-10")
    status, body = await belayd.rest("POST", "/api/device/s-10/token", {"graceMs": 3600000})
    assert status == 200
    first, second = Device(belayd, "s-10", old), Device(belayd, "s-10", body["deviceToken"])
    assert await first.statuses() == [202, 202, 204] and await first.statuses() == [202, 202, 204]
    assert (await second.telemetry({}))[0] == 202
    assert await first.statuses() == [401] * 3 and await second.statuses() == [202, 202, 204]
    with pytest.raises(Refused):
        await belayd.device("s-10", old)


async def test_revoked_at_once(belayd):
    d = await sleeper(belayd, "s-11")
    assert await d.statuses() == [202, 202, 204]
    status, body = await belayd.rest("POST", "/api/device/s-11/token")
    assert status == 200 and await d.statuses() == [401] * 3
    d.token = body["deviceToken"]
    assert await d.statuses() == [202, 202, 204]
    assert (await belayd.rest("DELETE", "/api/device/s-11"))[0] == 204
    assert await d.statuses() == [401] * 3
    assert await Device(belayd, "s-11", token(user=None, device="s-11")).statuses() == [401] * 3
    await belayd.register("s-11")
    assert await d.statuses() == [401] * 3


async def begun(belayd, method, path, bdt, body):
    """A request whose head has passed, and whose body is still to come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", belayd.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bdt}\r\nContent-Length: {len(body)}\r\n"
                 "Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")

    async def end():
        writer.write(body)
        answer = await reader.read()
        writer.close()
        return int(answer.split()[1])
    return end


@pytest.mark.parametrize("revoke", ["rotated", "deleted"])
@pytest.mark.parametrize("by", ["token", "jwt"])
async def test_revoked_between_head_and_body(belayd, revoke, by):
    id = f"s-12-{revoke}-{by}"
    bdt = await belayd.register(id)
    if by == "jwt":
        bdt = token(user=None, device=id)
    ends = [await begun(belayd, "PUT", STATE.format(id), bdt, b'{"late":1}'),
            await begun(belayd, "POST", EVENTS.format(id), bdt, b'{"event":"x_late"}'),
            await begun(belayd, "POST", TELEMETRY, bdt, json.dumps({"deviceId": id, "data": {}}).encode())]
    if revoke == "rotated":
        assert (await belayd.rest("POST", f"/api/device/{id}/token"))[0] == 200
    else:
        assert (await belayd.rest("DELETE", f"/api/device/{id}"))[0] == 204
    # a JWT is not the device's own secret: another token takes nothing from it
    assert [await end() for end in ends] == ([204, 202, 202] if (revoke, by) == ("rotated", "jwt") else [401] * 3)


async def refused(ask, times=40):
    """How many of so many requests passed before one was refused for the rate, and that answer."""
    for n in range(times):
        status, head, body = await ask()
        if status == 429:
            return n, json.loads(body)["error"]["code"], int(head["Retry-After"])
        assert status in (202, 204), body
    raise AssertionError("none was refused")


async def test_its_rate(start):
    """limits.message_rate holds over all of its requests, wherever they come in, and for it alone."""
    daemon = start({"limits.message_rate": 1, "limits.message_burst": 6}, workers=2)
    a, b, c = [await sleeper(daemon, f"rate-{i}") for i in range(3)]
    passed, code, after = await refused(lambda: a.ask("PUT", STATE, {}, raw=True))
    assert passed >= 6 and code == "rate_limited" and after >= 1
    assert (await b.state({}))[0] == 204
    # an array is as many messages as it has elements
    assert (await c.ask("POST", TELEMETRY, [{"deviceId": "rate-2", "data": {}}] * 1000))[0] == 202
    assert (await c.state({}))[0] == 429 and (await c.event("x_y"))[0] == 429 and (await c.telemetry({}))[0] == 429
    assert (await b.state({}))[0] == 204
    assert (await daemon.rest("GET", "/api/device/rate-0"))[0] == 200		# its owner's is another one


async def test_rates_of_its_tenant(start):
    daemon = start({"limits.tenant_store_rate": "1K"}, workers=1)
    d = await sleeper(daemon, "store-1")
    large = {"x": "y" * 1000}
    _, code, after = await refused(lambda: d.ask("PUT", STATE, large, raw=True))
    assert code == "rate_limited" and after >= 1
    assert (await d.ask("POST", EVENTS, {"event": "x_y", "data": large}))[0] == 429
    other = Device(daemon, "store-2", await daemon.register("store-2", token(tenant="t2")))
    assert (await other.state({}))[0] == 204


async def test_messages_of_its_tenant(start):
    daemon = start({"limits.tenant_message_rate": 10, "limits.tenant_message_burst": 10}, workers=1)
    d = await sleeper(daemon, "m-1")
    _, code, _ = await refused(lambda: d.ask("PUT", STATE, {}, raw=True), 500)
    assert code == "rate_limited"


async def test_a_tenant_that_keeps_too_much(start):
    daemon = start({"limits.tenant_store": "20K"}, workers=1)
    d = await sleeper(daemon, "full-1")
    for _ in range(20):
        status, body = await d.event("x_y", data={"x": "y" * 4000})
        if status != 202:
            break
    assert status == 429 and body["error"]["code"] == "too_many", body
    assert (await d.state({}))[0] == 429 and (await d.telemetry({}))[0] == 202


async def test_what_was_answered_lasts(start):
    daemon = start(workers=1)
    d = await sleeper(daemon, "last-1")
    for n in range(5):
        assert (await d.event("x_n", data={"n": n}))[0] == 202 and (await d.state({"n": n}))[0] == 204
        [pid] = daemon.workers("storage").values()
        os.kill(pid, signal.SIGKILL)

        async def again():
            return pid not in daemon.workers("storage").values() and (await d.telemetry({}))[0] == 202
        await eventually(again)
        events = (await daemon.rest("GET", "/api/device/last-1/events?type=x_n"))[1]["events"]
        assert [e["data"]["n"] for e in events] == list(range(n, -1, -1))
        assert (await shown(daemon, "last-1"))["state"] == {"n": n}


async def test_a_store_that_does_not_answer(start):
    """The request is answered, and belayd goes on."""
    daemon = start(workers=1)
    d = await sleeper(daemon, "slow-1")
    [pid] = daemon.workers("storage").values()
    os.kill(pid, signal.SIGSTOP)
    status, head, body = await d.ask("PUT", STATE, {"n": 1}, raw=True)
    assert status == 503 and "Retry-After" in head and json.loads(body)["error"]["code"] == "unavailable"

    async def again():
        return (await d.state({"n": 2}))[0] == 204
    if pid in daemon.workers("storage").values():
        os.kill(pid, signal.SIGCONT)
    await eventually(again)
    assert (await shown(daemon, "slow-1"))["state"] == {"n": 2}
