"""Quotas of tenants: one that is loud, or large, costs only itself."""

import asyncio
import time

import pytest

from belay import Refused, run_device, token


async def test_connections_of_a_tenant(start):
    belayd = start({"limits.connections_per_tenant": 3}, workers=1)
    held = [await belayd.user(f"u{i}") for i in range(3)]
    with pytest.raises(Refused) as e:
        await belayd.user("u4")
    assert (e.value.code, e.value.reason) == (1013, "Too many connections")
    other = await belayd.user("u1", "t2")
    await held[0].close()
    again = await belayd.user("u5")
    for c in held[1:] + [other, again]:
        await c.close()


async def test_devices_of_a_tenant(start):
    belayd = start({"limits.devices_per_tenant": 2}, workers=1)
    for i in range(2):
        await belayd.register(f"d{i}")
    status, body = await belayd.rest("POST", "/api/device/register", {"deviceId": "d3", "name": "x"})
    assert status == 429 and body["error"]["code"] == "too_many", body
    status, _ = await belayd.rest("DELETE", "/api/device/d0")
    assert status == 204
    await belayd.register("d3")
    status, _ = await belayd.rest("POST", "/api/device/register", {"deviceId": "d3", "name": "x"}, token(tenant="t2"))
    assert status == 201


async def test_messages_of_a_tenant(start):
    belayd = start({"limits.tenant_message_rate": 50, "limits.message_rate": 1000, "limits.message_burst": 1000}, workers=1)
    loud = [await belayd.user(f"u{i}") for i in range(4)]
    for c in loud:
        for _ in range(40):
            await c.send("ping")
    answers = [await c.recv() for c in loud for _ in range(40)]
    limited = [m for m in answers if m["type"] == "error"]
    assert 90 <= len(limited) <= 110
    assert all(m["payload"]["code"] == "rate_limited" and m["payload"]["retryAfterMs"] > 0 for m in limited)
    quiet = await belayd.user("u", "t2")
    assert (await quiet.ask("ping"))["type"] == "pong"
    for c in loud + [quiet]:
        await c.close()
