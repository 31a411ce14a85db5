"""What a request costs is what is in it, and it says once for which tenant it is."""

import asyncio

from belay import token


def array(n, **more):
    return [{"deviceId": "d1", "data": {"n": i}, **more} for i in range(n)]


async def post(belayd, n, bearer=None):
    """(status, Retry-After in seconds)"""
    status, headers, _ = await belayd.rest("POST", "/api/telemetry", array(n), bearer, raw=True)
    return status, int(headers.get("Retry-After", 0))


async def test_an_array_is_as_many_messages(start):
    """It passes once, though it is larger than all that may come at once; what follows waits for so long as it would have taken."""
    belayd = start({"limits.requests_per_user": 10}, workers=1)
    await belayd.register("d1")
    assert await post(belayd, 500) == (202, 0)
    status, wait = await post(belayd, 1)
    assert status == 429 and 20 <= wait <= 50, wait		# 500 at 10 a second, of which 20 may come at once
    status, body = await belayd.rest("GET", "/api/device")
    assert status == 429 and body["error"]["code"] == "rate_limited"
    # Nobody else's, of the same tenant or another, and no back end's.
    await belayd.register("d1", token("u1", "t2"))
    for bearer, expected in ((token("u2"), 200), (token("u1", "t2"), 200), (token("s", role="service"), 200)):
        assert (await belayd.rest("GET", "/api/device", bearer=bearer))[0] == expected


async def test_an_array_of_a_tenant(start):
    """Also a back end's: its tenant has a rate."""
    belayd = start({"limits.tenant_message_rate": 20, "limits.tenant_message_burst": 1, "limits.requests_per_user": 0}, workers=2)
    await belayd.register("d1")
    service = token("s", role="service")

    async def one():
        while (answer := await post(belayd, 400, service))[0] == 429 and answer[1] <= 1:
            await asyncio.sleep(0.02)
        return answer

    assert await one() == (202, 0)
    status, wait = await post(belayd, 1, service)
    assert status == 429 and 10 <= wait <= 20, wait
    user = await belayd.user("u2")
    answer = await user.ask("ping")
    assert answer["type"] == "error" and answer["payload"]["code"] == "rate_limited" and answer["payload"]["retryAfterMs"] > 5000
    other = await belayd.user("u1", "t2")
    assert (await other.ask("ping"))["type"] == "pong"
    for c in (user, other):
        await c.close()


async def test_arrays_at_once(start):
    """Those that were let in together, before their bodies were there, do not all pass."""
    belayd = start({"limits.requests_per_user": 10}, workers=2)
    await belayd.register("d1")
    answers = await asyncio.gather(*(post(belayd, 500) for _ in range(10)))
    assert sorted(status for status, _ in answers) == [202] + [429] * 9, answers
    assert all(wait >= 10 for status, wait in answers if status == 429), answers


async def test_named_twice(start):
    """A key of all tenants names one, in the query or in the body; both may, if they name the same."""
    belayd = start(workers=1)
    for t in ("t1", "t2"):
        await belayd.register("d1", token("u1", t))

    async def ask(method, path, body=None):
        status, answer = await belayd.rest(method, path, body, belayd.service_key)
        return status, status == 422 and (answer["error"]["code"], answer["error"].get("field")) == ("invalid_payload", "tenantId")

    one = array(1, tenantId="t1")[0]
    mixed = [one, array(1)[0], {**one, "tenantId": "t2"}]
    refused = [("/api/telemetry?tenantId=t2", one), ("/api/telemetry?tenantId=t2", [array(1)[0], one]), ("/api/telemetry?tenantId=t1", mixed),
               ("/api/telemetry?tenantId=t1&tenantId=t2", array(1)), ("/api/telemetry?tenantId=%zz", one),
               ("/api/telemetry", mixed), ("/api/telemetry", [one, array(1)[0]]), ("/api/telemetry?tenantId=t1", {**one, "tenantId": 5}),
               ("/api/command?tenantId=t2", {"deviceId": "d1", "command": "c", "queueMs": 5000, "tenantId": "t1"}),
               ("/api/device/register?tenantId=t2", {"deviceId": "d2", "name": "d2", "ownerId": "u1", "tenantId": "t1"}),
               ("/v1/websocket/broadcast?tenantId=t2", {"type": "x", "payload": {}, "tenantId": "t1"})]
    for path, body in refused:
        assert await ask("POST", path, body) == (422, True), (path, body)
    for path, body in (("/api/telemetry?tenantId=t1", one), ("/api/telemetry?tenantId=t1", [one, array(1)[0]]), ("/api/telemetry", [one, one]),
                       ("/api/telemetry?tenantId=t%31", array(2))):
        assert await ask("POST", path, body) == (202, False), (path, body)
    for t in ("t1", "t2"):
        _, body = await belayd.rest("GET", "/api/device", bearer=token("u1", t))
        assert [d["deviceId"] for d in body["devices"]] == ["d1"], "what was refused did nothing"
