"""What a list of ids costs a gateway grows with its length, and not with the square of it.

The gateway's own CPU time is measured, by the kernel's account of it.
"""

import asyncio
from pathlib import Path

import aiohttp

from belay import token
from fleet import taken_by

SMALL, BIG = 100, 1000		# ids in a list; ten times as many
BOUND = 20			# times the cost: 5 to 9 have been measured, and 27 to 46 where each id was compared with each other
SETTINGS = {"limits.message_rate": 100000, "limits.message_burst": 100000, "limits.requests_per_user": 0}
ADMIN = token("boss", role="admin")


def ids(n):
    """All of one length, and different at their ends alone."""
    return [f"{'a' * 50}{i:04}" for i in range(n)]


def cpu(daemon):
    """Seconds that the gateway has run."""
    (pid,) = daemon.workers("gateway").values()
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def cost(daemon, n, times, ask):
    """CPU seconds of one request with n ids, once the first one is over; each time in another order."""
    there, back = ids(n), ids(n)[::-1]
    await ask(there)
    before = cpu(daemon)
    for i in range(times):
        await ask((back, there)[i % 2])
    return (cpu(daemon) - before) / times


async def compare(daemon, what, ask):
    small, big = await cost(daemon, SMALL, 200, ask), await cost(daemon, BIG, 60, ask)
    print(f"{what} of {SMALL} ids: {small * 1e3:.3f} ms of CPU, of {BIG}: {big * 1e3:.3f} ms, {big / small:.1f} times as much")
    assert big < BOUND * small


async def test_unsubscribe(start):
    daemon = start(SETTINGS, workers=1)
    c = await daemon.user()

    async def ask(devices):
        answer = await c.ask("unsubscribe", {"devices": devices})
        assert answer["type"] == "ok" and answer["payload"]["devices"] is None and len(answer["payload"]["except"]) == len(devices)
    await compare(daemon, "unsubscribe", ask)


async def test_subscribe(start):
    daemon = start(SETTINGS, workers=1)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token()}"}) as session:
        async def register(some):
            for id in some:
                async with session.post(daemon.http + "/api/device/register", json={"deviceId": id, "name": id}) as r:
                    assert r.status == 201, await r.text()
        await asyncio.gather(*(register(ids(BIG)[i::20]) for i in range(20)))
    c = await daemon.user()

    async def ask(devices):
        answer = await c.ask("subscribe", {"devices": devices})
        assert answer["type"] == "ok" and answer["payload"]["devices"] == devices
    await compare(daemon, "subscribe", ask)
    # Out of the list, in either order; what is left stays as it was.
    await c.ask("subscribe", {"devices": ids(BIG)})
    answer = await c.ask("unsubscribe", {"devices": ids(BIG)[:0:-1]})
    assert answer["payload"] == {"devices": ids(1)}


async def test_broadcast(start):
    daemon = start(SETTINGS, workers=1)
    c = await daemon.user(ids(1)[0])
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {ADMIN}"}) as session:
        async def ask(users):
            body = {"type": "x", "payload": {}, "userIds": users}
            async with session.post(daemon.http + "/v1/websocket/broadcast", json=body) as r:
                assert await r.json() == {"users": 1, "connections": 1}
            assert (await c.recv())["type"] == "x"
        await compare(daemon, "broadcast", ask)
    await c.nothing("x", 0)


async def test_more_users_than_a_record_holds(start):
    """Users of both gateways are counted, each once, where their list is longer than a mailbox takes at a time."""
    daemon = start({**SETTINGS, "memory.mailbox": "64K"}, workers=2)
    users, open_ones = [f"user{i}" for i in range(2100)], []
    # All are at the gateway that is not asked, and some at the one that is.
    for gateway, some in (("gateway 1", users), ("gateway 2", users[:10])):
        for i in range(0, len(some), 50):			# what the listener's backlog surely takes
            with taken_by(daemon, gateway):
                open_ones += await asyncio.gather(*(daemon.user(u) for u in some[i:i + 50]))
    with taken_by(daemon, "gateway 2"):
        session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {ADMIN}"})
        async with session.get(daemon.http + "/health"):
            pass
    async with session:
        async with session.get(daemon.http + "/v1/websocket/stats") as r:
            stats = await r.json()
        assert (stats["users"], stats["connections"]) == (2100, 2110)
        async with session.post(daemon.http + "/v1/websocket/broadcast", json={"type": "x", "payload": {}}) as r:
            assert await r.json() == {"users": 2100, "connections": 2110}
    await asyncio.gather(*(c.expect("x") for c in open_ones))
    await asyncio.gather(*(c.close() for c in open_ones))


async def test_each_name_once(belayd):
    """Whatever is named twice counts once, however it is spelled, and keeps its place."""
    for id in ("n-1", "n-2", "n-3"):
        await belayd.register(id)
    c = await belayd.user()

    async def raw(type, devices):
        await c.ws.send('{"type":"%s","id":"1","payload":{"devices":[%s]}}' % (type, devices))
        return (await c.expect("ok"))["payload"]
    assert await raw("subscribe", r'"n-2","n-1","\u006e-2","n-3","n-1"') == {"devices": ["n-2", "n-1", "n-3"]}
    assert await raw("unsubscribe", r'"n-\u0031","n-1"') == {"devices": ["n-2", "n-3"]}
    assert await raw("unsubscribe", r'"n-9","n-2","n-3"') == {"devices": []}
    assert (await c.ask("subscribe", {"devices": None}))["payload"] == {"devices": None}
    assert await raw("unsubscribe", r'"n-1","\u006e-1","n-2"') == {"devices": None, "except": ["n-1", "n-2"]}
    assert await raw("unsubscribe", r'"n-2","n-3"') == {"devices": None, "except": ["n-1", "n-2", "n-3"]}
