"""Limits hold for the whole instance, whichever gateway a client comes to, and one tenant's are not another's."""

import asyncio
import contextlib
import os
import signal
import socket
import time

import aiohttp
import pytest
import websockets

import moved
from belay import PATIENCE, Refused, eventually, free_port, token

# The kernel deals connections out among the gateways by their addresses and ports.
SPREAD = {"server.accept": "reuseport"}


async def test_connections_of_a_tenant(start):
    belayd = start({"limits.connections_per_tenant": 3}, workers=4)
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


def gateways(belayd):
    """How many connections of clients each gateway has, by its open descriptors: those that TCP says are established to it."""
    port = f"{belayd.port:04X}"
    inodes = {line.split()[9] for line in open("/proc/net/tcp").read().splitlines()[1:]
              if line.split()[1].endswith(":" + port) and line.split()[3] == "01"}
    out = {}
    for name, pid in belayd.workers("gateway").items():
        links = []
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        out[name] = (pid, sum(link[8:-1] in inodes for link in links if link.startswith("socket:[")))
    return out


async def fill(belayd, most, open_one):
    """Opens as many as there may be, and finds each further one refused; several gateways have some."""
    held = [await open_one(i) for i in range(most)]
    assert sum(n > 0 for _, n in gateways(belayd).values()) > 1, gateways(belayd)
    for i in range(most):
        with pytest.raises(Refused) as e:
            await open_one(most + i)
        assert (e.value.code, e.value.reason) == (1013, "Too many connections")
    return held


async def close_all(*clients):
    for c in clients:
        await c.close()


@pytest.mark.parametrize("limit, open_one", [
    ("connections", lambda d, i: d.user(f"u{i}", f"t{i}")),
    ("connections_per_ip", lambda d, i: d.user(f"u{i}", f"t{i}")),
    ("connections_per_tenant", lambda d, i: d.user(f"u{i}")),
    ("connections_per_user", lambda d, i: d.user("u1")),
])
async def test_connections_in_all_gateways(start, limit, open_one):
    """The N+1st is refused wherever it comes; a place that is free is free for all at once, in all gateways."""
    belayd = start({f"limits.{limit}": 12, **SPREAD}, workers=4)
    held = await fill(belayd, 12, lambda i: open_one(belayd, i))
    for i in range(40):
        await held.pop(0).close()
        held.append(await open_one(belayd, 100 + i))
    with pytest.raises(Refused):
        await open_one(belayd, 200)
    if limit == "connections_per_user":
        await close_all(await belayd.user("u1", "t2"), await belayd.user("u2"))
    if limit == "connections_per_tenant":
        await close_all(await belayd.user("u1", "t2"))
    if limit == "connections_per_ip":
        await close_all(await belayd.user("u1", local_addr=("127.0.0.2", 0)))
    await close_all(*held)


@pytest.mark.parametrize("limit", ["connections", "connections_per_ip"])
async def test_refused_requests(start, limit):
    """What is no WebSocket gets an HTTP status that says when to come again, and it counts like one."""
    belayd = start({f"limits.{limit}": 6, **SPREAD}, workers=4)
    held = [await belayd.user(f"u{i}") for i in range(6)]
    status, headers, _ = await belayd.rest("GET", "/api/device", raw=True)
    assert status == 503 and int(headers["Retry-After"]) >= 1
    await held.pop().close()
    assert (await belayd.rest("GET", "/api/device"))[0] == 200
    await close_all(*held)


async def test_many_that_say_nothing(start):
    """Of those beyond the limit who say nothing the oldest get a word when too many of them wait, and they keep nobody else out."""
    belayd = start({"limits.connections_per_ip": 2, "limits.handshake_time": "2s"}, workers=1)
    held = [await belayd.user(f"u{i}") for i in range(2)]
    silent = [socket.create_connection(("127.0.0.1", belayd.port), PATIENCE) for _ in range(400)]
    answers = 0
    for s in silent[:50]:
        s.settimeout(PATIENCE)
        answers += s.recv(100).startswith(b"HTTP/1.1 503 ")
    assert answers == 50
    other = await belayd.user("u9", local_addr=("127.0.0.2", 0))
    silent[-1].settimeout(PATIENCE)
    assert silent[-1].recv(100) == b""
    await close_all(other, *held)
    for s in silent:
        s.close()


@pytest.mark.parametrize("limit", ["connections", "connections_per_ip", "connections_per_tenant", "connections_per_user"])
async def test_killed_gateways_give_back(start, limit):
    """After a gateway was killed its places are free, all of them, and no others."""
    belayd = start({f"limits.{limit}": 12, **SPREAD}, workers=4)
    held = await fill(belayd, 12, lambda i: belayd.user("u1"))
    for _ in range(3):
        name, (pid, lost) = max(gateways(belayd).items(), key=lambda item: item[1][1])
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: sum(c.ws.closed for c in held) == lost)
        held = [c for c in held if not c.ws.closed]
        await eventually(lambda: belayd.workers("gateway").get(name, pid) != pid, timeout=PATIENCE)
        while len(held) < 12:
            held.append(await again(lambda: belayd.user("u1")))
        for _ in range(4):
            with pytest.raises(Refused) as e:
                await belayd.user("u1")
            assert e.value.code == 1013
    await close_all(*held)


async def again(open_one, timeout=PATIENCE):
    """A gateway that was just killed may have left connections in its socket's queue."""
    end = time.monotonic() + timeout
    while True:
        try:
            return await open_one()
        except (Refused, OSError, EOFError):
            assert time.monotonic() < end
            await asyncio.sleep(0.05)


async def start_unseen(start, settings, **kwargs):
    """Looks whether it is ready where looking does not count."""
    belayd = start({"server.admin_listen": f"127.0.0.1:{free_port()}", **settings}, wait=False, **kwargs)

    async def ready():
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://{belayd.settings['server.admin_listen']}/health/ready") as r:
                    return r.status == 200
    await eventually(ready, timeout=20)
    return belayd


async def counter(belayd, name):
    """By the address that no limit is for."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{belayd.settings['server.admin_listen']}/metrics") as r:
        text = await r.text()
        moved.note(text)
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))


async def reload(belayd, text):
    reloads, workers = await counter(belayd, "belay_reloads_total"), len(belayd.workers())
    (belayd.folder / "belayd.conf").write_text(text)
    belayd.process.send_signal(signal.SIGHUP)

    async def done():
        return await counter(belayd, "belay_reloads_total") >= reloads + workers
    await eventually(done)


@pytest.mark.parametrize("limit", ["connections", "connections_per_ip", "connections_per_tenant", "connections_per_user"])
async def test_reload_of_connection_limits(start, limit):
    """A limit that comes counts what is there already; one that grows or goes lets others in at once.  Nothing is closed."""
    belayd = start({**SPREAD, "server.admin_listen": f"127.0.0.1:{free_port()}"}, workers=4)
    held = [await belayd.user("u1") for _ in range(8)]

    async def full():
        for _ in range(8):
            with pytest.raises(Refused):
                await belayd.user("u1")

    for _ in range(2):
        await reload(belayd, f"limits: {{ {limit} = 9; }};\n")
        held.append(await belayd.user("u1"))
        await full()
        await reload(belayd, f"limits: {{ {limit} = 11; }};\n")
        held += [await belayd.user("u1") for _ in range(2)]
        await full()
        await reload(belayd, f"limits: {{ {limit} = 3; }};\n")
        await full()
        await close_all(*held[8:])
        del held[8:]
        await full()
        await reload(belayd, "")
        await close_all(*[await belayd.user("u1") for _ in range(10)])
    assert (await held[0].ask("ping"))["type"] == "pong"
    await close_all(*held)


async def test_takeover_at_the_limit(start):
    """A device that comes again has its own place, also while the tenant has no other."""
    belayd = start({"limits.connections_per_tenant": 4, **SPREAD}, workers=4)
    tokens = [await belayd.register(f"d{i}") for i in range(5)]
    held = [await belayd.device(f"d{i}", tokens[i]) for i in range(4)]
    for _ in range(10):
        old, held[3] = held[3], await belayd.device("d3", tokens[3])
        assert await old.closed() == (4009, "Replaced")
    with pytest.raises(Refused) as e:
        await belayd.device("d4", tokens[4])
    assert e.value.code == 1013
    await held.pop().close()
    held.append(await belayd.device("d4", tokens[4]))
    await close_all(*held)


async def test_requests_in_all_gateways(start):
    """A user's requests have one rate, whichever gateways they come to; 429 says when to try again."""
    belayd = start({"limits.requests_per_user": 5, **SPREAD}, workers=4)
    bearer, began = token("busy"), time.monotonic()
    answers = [await belayd.rest("GET", "/api/device", bearer=bearer, raw=True) for _ in range(40)]
    most = 10 + 5 * (time.monotonic() - began) + 1
    good = [a for a in answers if a[0] == 200]
    assert 10 <= len(good) <= most, (len(good), most)
    assert all(a[0] == 429 and a[1]["Retry-After"] == "1" for a in answers if a[0] != 200)
    for other in (token("calm"), token("busy", "t2")):
        assert (await belayd.rest("GET", "/api/device", bearer=other))[0] == 200


async def test_connects_in_all_gateways(start):
    belayd = await start_unseen(start, {"limits.connects_per_ip": 5, **SPREAD}, workers=4)
    source = {"local_addr": ("127.0.0.3", 0)}
    for i in range(5):
        await (await belayd.user(f"u{i}", **source)).close()
    for i in range(8):
        with pytest.raises(Refused) as e:
            await belayd.user(f"u{i}", **source)
        assert e.value.code == 1013
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=("127.0.0.3", 0))) as session:
        async with session.get(belayd.http + "/health") as r:
            assert r.status == 429 and 1 <= int(r.headers["Retry-After"]) <= 13
    await (await belayd.user("u1", local_addr=("127.0.0.4", 0))).close()


async def test_messages_in_all_gateways(start):
    """A tenant's messages, and its requests, share one rate over all connections, gateways, and deaths."""
    belayd = start({"limits.tenant_message_rate": 50, "limits.message_rate": 1000, "limits.message_burst": 1000, **SPREAD}, workers=4)
    loud = [await belayd.user(f"u{i}") for i in range(10)]
    assert sum(n > 0 for _, n in gateways(belayd).values()) > 1
    began = time.monotonic()
    for _ in range(20):
        for c in loud:
            await c.send("ping")
    answers = [await c.recv() for c in loud for _ in range(20)]
    most = 50 + 50 * (time.monotonic() - began) + 1
    good = [m for m in answers if m["type"] == "pong"]
    assert 50 <= len(good) <= most, (len(good), most)
    assert all(m["payload"]["code"] == "rate_limited" and m["payload"]["retryAfterMs"] > 0 for m in answers if m["type"] == "error")
    async def go_on():
        while True:
            for c in loud:
                await c.send("ping")
            await asyncio.sleep(0.01)

    async def refused():
        status, headers, _ = await belayd.rest("GET", "/api/device", bearer=token("u99"), raw=True)
        return status == 429 and headers["Retry-After"] == "1"

    noise = asyncio.ensure_future(go_on())
    for _ in range(3):
        await eventually(refused)
    noise.cancel()
    # Another tenant, and a back end for all of them, have nothing to do with it.
    quiet = await belayd.user("u1", "t2")
    assert (await quiet.ask("ping"))["type"] == "pong"
    assert (await belayd.rest("GET", "/api/device", bearer=token("u1", "t2")))[0] == 200
    assert (await belayd.rest("GET", "/v1/websocket/stats?tenantId=t1", bearer=belayd.service_key))[0] == 200
    # A gateway dies, and its clients come back, to the same bucket.
    name, (pid, lost) = max(gateways(belayd).items(), key=lambda item: item[1][1])
    for c in loud:
        for _ in range(20):
            await c.send("ping")
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: sum(c.ws.closed for c in loud + [quiet]) >= lost)
    fresh = [await again(lambda: belayd.user("v")) for _ in range(5)]
    good, began = 0, time.monotonic()
    for _ in range(20):
        for c in fresh:
            await c.send("ping")
    for c in fresh:
        for _ in range(20):
            good += (await c.recv())["type"] == "pong"
    assert good <= 50 + 50 * (time.monotonic() - began) + 1, good
    await close_all(*loud, quiet, *fresh)


async def test_full_table_of_limits(start):
    """Beyond memory.limits newcomers come in uncounted, which a counter tells; those who are in it are limited as before."""
    belayd = await start_unseen(start, {"limits.connects_per_ip": 1, "memory.limits": 64, **SPREAD}, workers=2)

    def ask(source):
        with socket.create_connection(("127.0.0.1", belayd.port), PATIENCE, source_address=(source, 0)) as s:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return s.recv(4096)[9:12]

    sources = [f"127.1.{i >> 8}.{i & 255}" for i in range(4000)]
    assert all(ask(source) == b"200" for source in sources)
    uncounted = await counter(belayd, "belay_limits_uncounted_total")
    assert 500 <= uncounted <= 3900
    again = [ask(source) for source in sources]
    assert again.count(b"429") == 4000 - uncounted
    assert again.count(b"200") == uncounted
    assert (await counter(belayd, "belay_limits_uncounted_total")) == 2 * uncounted


async def test_floods_wait_in_their_sockets(start):
    """Who goes on above the rate is not read as fast as he sends, but told of it, served at the rate, and closed in the end."""
    belayd = start({"limits.abuse_time": "3s"}, workers=1)
    c = await belayd.user()
    other = await belayd.user("u2")
    sent, began = 0, time.monotonic()

    async def flood():
        nonlocal sent
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                for _ in range(100):
                    await c.ws.send('{"type":"ping"}')
                sent += 100
                await asyncio.sleep(0.005)

    task = asyncio.ensure_future(flood())
    for _ in range(5):
        assert (await other.ask("ping"))["type"] == "pong"
        await asyncio.sleep(0.2)
    assert await c.closed(timeout=20) == (4029, "Rate limited")
    took = time.monotonic() - began
    await task
    refused = [m for m in c.kept if m["type"] == "error"]
    served = [m for m in c.kept if m["type"] == "pong"]
    assert all(m["payload"]["code"] == "rate_limited" and m["payload"]["retryAfterMs"] > 0 for m in refused)
    assert took >= 3 and 100 + 50 * 2 <= len(served) <= 100 + 50 * took + 1
    # The first hundred refusals are free, and what one read of 16 KB brought; then a handful in each tenth of a second.
    assert 100 < len(refused) < 1200 + 300 * took < sent, (len(refused), took, sent)
    assert await belayd.metric("belay_hushed_total") >= 5
    await other.close()


async def test_quiet_again_after_a_flood(start):
    """Whoever stops is read as before, and none of what was within the rate is lost."""
    belayd = start({"limits.message_burst": 20}, workers=1)
    c = await belayd.user()
    for _ in range(120):
        await c.ws.send('{"type":"ping"}')
    answers = [(await c.recv(10))["type"] for _ in range(120)]
    assert set(answers) == {"pong", "error"}
    await asyncio.sleep(0.5)
    began = time.monotonic()
    assert (await c.ask("ping"))["type"] == "pong"
    assert time.monotonic() - began < 1
    await c.close()


async def test_refused_requests_keep_their_connection(start):
    """429 comes for each of many requests at once, in order, also with bodies, and beyond the first ones no faster than the rate."""
    belayd = start({"limits.requests_per_user": 5, "limits.message_burst": 5}, workers=1)
    body = b'{"deviceId":"none","command":"unlock_door"}'
    head = f"Host: x\r\nAuthorization: Bearer {token()}\r\n".encode()
    post = b"POST /api/command HTTP/1.1\r\n" + head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    get = b"GET /api/device HTTP/1.1\r\n" + head + b"\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", belayd.port)
    began = time.monotonic()
    writer.write((post + get) * 20)
    statuses = []
    for _ in range(40):
        lines = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().split("\r\n")
        statuses.append(int(lines[0].split()[1]))
        length = next(int(line.split()[1]) for line in lines if line.lower().startswith("content-length:"))
        assert b"rate_limited" in await reader.readexactly(length) or statuses[-1] != 429
    took = time.monotonic() - began
    assert statuses[:10] == [404, 200] * 5
    assert 5 < statuses.count(429) <= 30
    assert len(statuses) - statuses.count(429) <= 10 + 5 * took + 1
    assert took > 1 and await belayd.metric("belay_hushed_total") >= 5
    writer.close()


async def test_what_a_tenant_may_send_at_once(start):
    """limits.tenant_message_burst, which a reload takes up, is over all connections and gateways, too."""
    rates = "tenant_message_rate = 100; message_rate = 1000; message_burst = 1000;"
    belayd = start({"server.admin_listen": f"127.0.0.1:{free_port()}", **SPREAD}, workers=4)
    loud = [await belayd.user(f"u{i}") for i in range(10)]
    for burst, full in (("", 100), ("tenant_message_burst = 10;", 10), ("tenant_message_burst = 300;", 300)):
        await reload(belayd, f"limits: {{ {rates} {burst} }};\n")
        await asyncio.sleep(3.1)         # what was taken under the rates before is made up for
        began = time.monotonic()
        for _ in range(50):
            for c in loud:
                await c.send("ping")
        answers = [await c.recv() for c in loud for _ in range(50)]
        good = [m for m in answers if m["type"] == "pong"]
        assert full <= len(good) <= full + 100 * (time.monotonic() - began) + 1, (burst, len(good))
    await close_all(*loud)
