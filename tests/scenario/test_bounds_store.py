"""What a tenant may store is bounded: so many bytes a second (limits.tenant_store_rate), and so many in all (limits.tenant_store).

Rates here are so low that a single message is a debt of a minute: nothing hangs on how fast a test runs.
"""

import asyncio
import os
import signal
import sqlite3

import pytest

from belay import eventually, token

SPREAD = {"server.accept": "reuseport", "limits.message_rate": 100000, "limits.message_burst": 100000,
          "store.telemetry_retention": "1d"}
BIG = {"event": "x_big", "data": {"text": "x" * 8000}}
SMALL = {"event": "x_small"}


async def reload(daemon, limits=""):
    """These limits and no others are in force, in all processes."""
    before = await daemon.metric("belay_reloads_total")
    (daemon.folder / "belayd.conf").write_text(f"limits: {{ {limits} }};\n")
    daemon.process.send_signal(signal.SIGHUP)

    async def done():
        return await daemon.metric("belay_reloads_total") >= before + len(daemon.workers())
    await eventually(done)


async def again(open_one):
    """The gateway that it comes to may just be the one that was killed."""
    for _ in range(20):
        try:
            return await open_one()
        except (OSError, EOFError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.05)
    return await open_one()


async def kill(daemon, name):
    starts = await daemon.metric("belay_worker_starts_total")
    os.kill(daemon.workers()[name], signal.SIGKILL)

    async def back():
        return await daemon.metric("belay_worker_starts_total") > starts and name in daemon.workers()
    await eventually(back)


async def error_of(client, type, payload):
    answer = await client.ask(type, payload)
    return answer["payload"].get("code") if answer["type"] == "error" else None


async def unstored(daemon):
    return await daemon.metric("belay_telemetry_not_stored_total")


async def telemetry_is_live(daemon, device, viewer, name):
    """… and is not stored."""
    before, stored = await unstored(daemon), await daemon.metric("belay_telemetry_stored_total")
    await device.ask("telemetry", {"data": {"n": 1}})
    status, _ = await daemon.rest("POST", "/api/telemetry", [{"deviceId": name, "data": {"n": n}} for n in (2, 3)])
    assert status == 202
    assert [(await viewer.expect("telemetry"))["payload"]["data"]["n"] for _ in range(3)] == [1, 2, 3]

    async def told():
        return await unstored(daemon) == before + 3
    await eventually(told)
    assert await daemon.metric("belay_telemetry_stored_total") == stored


async def held_command(daemon, device, user):
    """One that the device has, and has not answered."""
    await user.send("command", {"deviceId": "d1", "command": "unlock_door", "timeoutMs": 300000})
    return (await device.expect("command"))["payload"]["commandId"]


async def acknowledge(device, user, command):
    answer = await device.ask("command_ack", {"commandId": command, "status": "executed", "result": {"text": "y" * 4000}})
    assert answer["type"] == "ok", answer
    await user.expect("command_status", where=lambda m: m["payload"]["status"] == "executed")


async def test_rate(start):
    daemon = start(SPREAD, workers=3)
    device = await daemon.device("d1", await daemon.register("d1"))
    other = await daemon.device("d2", await daemon.register("d2", token(tenant="t2")))
    user = await daemon.user()
    await daemon.register("d3")
    held = await held_command(daemon, device, user)
    status, body = await daemon.rest("POST", "/api/command", {"deviceId": "d3", "command": "x", "queueMs": 600000})
    assert status == 202
    waiting = body["command"]["commandId"]
    await reload(daemon, 'tenant_store_rate = "128";')

    # A message passes when there is no debt, however long; then its tenant waits for a minute, in every gateway.
    assert (await device.ask("event", BIG))["type"] == "ok"
    refused = await device.ask("event", SMALL)
    assert refused["payload"]["code"] == "rate_limited" and 10000 < refused["payload"]["retryAfterMs"] < 80000, refused
    await device.send("status", {"door": "open"})			# without an id, too
    refused = await device.expect("error")
    assert refused["payload"]["code"] == "rate_limited" and "re" not in refused
    assert await error_of(device, "visitor", {"name": "v"}) == "rate_limited"
    for i in range(6):
        client = await daemon.user(f"u{i}")
        assert await error_of(client, "command", {"deviceId": "d1", "command": "x"}) == "rate_limited"
        assert (await client.ask("ping"))["type"] == "pong"		# it is not closed for that
        await client.close()
    for method, path, body in (("POST", "/api/command", {"deviceId": "d1", "command": "x"}),
                               ("POST", "/api/device/register", {"name": "x"}),
                               ("PUT", "/api/device/d1", {"name": "x"}),
                               ("POST", "/api/device/d1/share", {"userId": "u2", "permission": "view"})):
        status, headers, _ = await daemon.rest(method, path, body, raw=True)
        assert status == 429 and 10 < int(headers["Retry-After"]) < 80, (path, status)
    assert (await daemon.rest("GET", "/api/device"))[0] == 200
    assert (await other.ask("event", SMALL))["type"] == "ok"

    # Telemetry is seen all the same; facts, and what withdraws, pass.
    await telemetry_is_live(daemon, device, user, "d1")
    await acknowledge(device, user, held)
    assert (await daemon.rest("DELETE", f"/api/command/{waiting}"))[0] == 200
    assert (await daemon.rest("DELETE", "/api/device/d3"))[0] == 204
    assert await daemon.metric('belay_tenant_store_limited_total{limit="rate"}') >= 16

    # The debt is the instance's, not a gateway's.
    for name in list(daemon.workers("gateway")):
        await kill(daemon, name)
    client = await again(daemon.user)
    assert await error_of(client, "command", {"deviceId": "d1", "command": "x"}) == "rate_limited"
    await reload(daemon)
    assert await error_of(client, "command", {"deviceId": "d1", "command": "x", "queueMs": 60000}) is None
    for c in (user, client, device, other):
        await c.close()


async def test_facts_make_a_bounded_debt(start):
    """What a device answers counts, but nobody is kept waiting for more than ten seconds by it."""
    daemon = start(SPREAD, workers=2)
    device, user = await daemon.device("d1", await daemon.register("d1")), await daemon.user()
    held = [await held_command(daemon, device, user) for _ in range(3)]
    await reload(daemon, 'tenant_store_rate = "16";')
    for command in held:
        await acknowledge(device, user, command)		# each would be minutes
    refused = await device.ask("event", SMALL)
    assert refused["payload"]["code"] == "rate_limited" and 0 < refused["payload"]["retryAfterMs"] <= 10000, refused
    await device.close()
    await user.close()


async def store_of(daemon, tenant="t1"):
    """What the tenant has, once all is counted."""
    async def counted():
        status, body = await daemon.rest("GET", "/api/health/metrics", bearer=token(tenant=tenant))
        return status == 200 and body.get("store", {}).get("counting") is False and body["store"]
    return await eventually(counted)


@pytest.mark.parametrize("store", [None, "memory:"], ids=["sqlite", "memory"])
async def test_size(start, store):
    daemon = start(SPREAD, workers=2, store=store)
    device, user = await daemon.device("d1", await daemon.register("d1")), await daemon.user()
    await daemon.register("big", metadata={"text": "z" * 50000})
    other = await daemon.device("d2", await daemon.register("d2", token(tenant="t2")))
    for _ in range(8):
        assert (await device.ask("event", BIG))["type"] == "ok"
    held = await held_command(daemon, device, user)
    status, body = await daemon.rest("GET", "/api/health/metrics")
    assert status == 200 and "store" not in body

    # What is there already counts as soon as there is a bound.
    await reload(daemon, 'tenant_store = "100K";')
    before = await store_of(daemon)
    assert before["limit"] == 102400 and 114000 < before["bytes"] < 125000, before
    for type, payload in (("event", SMALL), ("status", {"x": 1}), ("visitor", {"name": "v"})):
        assert await error_of(device, type, payload) == "too_many", type
    await device.send("event", SMALL)
    assert (await device.expect("error"))["payload"]["code"] == "too_many"
    assert await error_of(user, "command", {"deviceId": "d1", "command": "x"}) == "too_many"
    for method, path, body in (("POST", "/api/command", {"deviceId": "d1", "command": "x"}),
                               ("POST", "/api/device/register", {"name": "x"}),
                               ("PUT", "/api/device/d1", {"name": "x"}),
                               ("POST", "/api/device/d1/share", {"userId": "u2", "permission": "view"})):
        status, answer = await daemon.rest(method, path, body)
        assert status == 429 and answer["error"]["code"] == "too_many", (path, answer)
    assert (await daemon.rest("GET", "/api/events"))[0] == 200
    assert (await other.ask("event", BIG))["type"] == "ok"
    assert (await store_of(daemon))["bytes"] == before["bytes"]
    assert await daemon.metric('belay_tenant_store_limited_total{limit="size"}') >= 9

    await telemetry_is_live(daemon, device, user, "d1")
    await acknowledge(device, user, held)
    after = await store_of(daemon)
    assert 4000 < after["bytes"] - before["bytes"] < 12000, (before, after)

    # Whoever is killed: the figure is the store's.
    await kill(daemon, next(iter(daemon.workers("storage"))))
    assert await store_of(daemon) == after
    assert await error_of(device, "event", SMALL) == "too_many"

    # What is removed makes room, at once.
    assert (await daemon.rest("DELETE", "/api/device/big"))[0] == 204
    assert after["bytes"] - (await store_of(daemon))["bytes"] > 49000
    assert (await device.ask("event", SMALL))["type"] == "ok"
    await reload(daemon, 'tenant_store = "1K";')
    assert await error_of(device, "event", SMALL) == "too_many"
    await reload(daemon)
    assert (await device.ask("event", SMALL))["type"] == "ok"
    assert "store" not in (await daemon.rest("GET", "/api/health/metrics"))[1]
    for c in (device, user, other):
        await c.close()


async def test_many_at_once(start):
    """However much of it comes in one batch, a tenant goes beyond its bound by one record."""
    daemon = start({**SPREAD, "limits.tenant_store": "200K"}, workers=2)
    devices = [await daemon.device(f"d{i}", await daemon.register(f"d{i}")) for i in range(4)]
    for device in devices:
        for i in range(30):
            await device.send("event", BIG, id=f"e{i}")
    answers = [[await device.recv() for _ in range(30)] for device in devices]
    stored = sum(a["type"] == "ok" for all in answers for a in all)
    assert 20 <= stored <= 26, stored
    assert all(a["type"] == "ok" or a["payload"]["code"] == "too_many" for all in answers for a in all)
    assert 204800 <= (await store_of(daemon))["bytes"] <= 204800 + 9000
    for device in devices:
        await device.close()


async def test_retention_makes_room(start):
    daemon = start({**SPREAD, "limits.tenant_store": "50K"}, workers=1)
    secret = await daemon.register("d1")
    device = await daemon.device("d1", secret)
    while await error_of(device, "event", BIG) is None:
        pass
    await device.close()
    daemon.stop()
    db = sqlite3.connect(f"{daemon.folder}/belay.db")
    with db:
        db.execute("UPDATE events SET received_at = 1000")
    db.close()
    daemon.start()
    device = await daemon.device("d1", secret)
    assert (await store_of(daemon))["bytes"] > 51200
    assert await error_of(device, "event", SMALL) == "too_many"
    daemon.process.send_signal(signal.SIGHUP)		# it looks for what is old at once

    async def gone():
        return (await store_of(daemon))["bytes"] < 2000
    await eventually(gone)
    assert (await device.ask("event", BIG))["type"] == "ok"
    await device.close()
