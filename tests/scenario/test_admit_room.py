"""Whoever says nothing, or half of it, keeps nobody out, though descriptors run out or the instance is full."""

import asyncio
import contextlib
import socket
import ssl
import threading

import aiohttp
import pytest

import moved
from belay import PATIENCE, Belayd, Refused, Stopwatch, eventually, free_port, token
from certs import Authority
from test_proxy import v2

DESCRIPTORS = 200


class Tight(Belayd):
    """May have so few descriptors in each process."""

    def command(self, *extra):
        return ["sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh", *super().command(*extra)]


@pytest.fixture
def tight(tmp_path):
    made = []

    def go(settings=None):
        d = Tight(tmp_path / "belayd", {"server.admin_listen": f"127.0.0.1:{free_port()}", "limits.heartbeat": "10m", **(settings or {})}, workers=1)
        d.admin = f"http://{d.settings['server.admin_listen']}"
        made.append(d)
        return d.start()

    yield go
    for d in made:
        assert d.stop() == 0, d.log_text()[-4000:]


HALF = (b"", b"GET /", b"GET /ws?auth=message HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")


def half_open(port, i, source="127.0.0.1"):
    s = socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(source, 0))
    with contextlib.suppress(OSError):
        s.sendall(HALF[i % len(HALF)])
    return s


async def get(url, source="127.0.0.2"):
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:
        async with session.get(url) as r:
            return r.status, await r.text()


async def test_silent_connections_of_one_address(tight):
    """Many more than there are descriptors, and they keep coming: others are served at once, and no session is ended."""
    d = tight()
    lock = await d.register("lock")
    door, user = await d.device("lock", lock), await d.user()
    held = [half_open(d.port, i) for i in range(2 * DESCRIPTORS)]
    over = threading.Event()

    def go_on():
        while not over.is_set() and len(held) < 20 * DESCRIPTORS:
            held.append(half_open(d.port, len(held)))
            if len(held) > 3 * DESCRIPTORS:
                held[-3 * DESCRIPTORS].close()

    flood = threading.Thread(target=go_on)
    flood.start()
    try:
        watch = Stopwatch(d)
        for i in range(10):
            assert (await get(d.http + "/health"))[0] == 200
            assert (await get(d.admin + "/health"))[0] == 200
            newer = await d.device("lock", lock, local_addr=("127.0.0.3", 0))
            assert await door.closed() == (4009, "Replaced")
            door = newer
            other = await d.user("u2", local_addr=("127.0.0.4", 0))
            assert (await other.ask("ping"))["type"] == "pong"
            await other.close()
            assert (await user.ask("ping"))["type"] == "pong"
        _, own = watch.stop()
        assert own < 10, own
    finally:
        over.set()
        flood.join()
    _, metrics = await get(d.admin + "/metrics")
    moved.note(metrics)
    counts = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert float(counts["belay_connections_ended_for_others_total"]) > DESCRIPTORS
    for s in held:
        s.close()
    await door.close()
    await user.close()


async def test_a_slow_one_beside_a_crowd(tight):
    """Who takes time to say what he wants is not ended for a crowd that comes meanwhile: that takes from itself."""
    d = tight()
    crowd = [half_open(d.port, i) for i in range(DESCRIPTORS)]
    slow = half_open(d.port, 1, "127.0.0.2")
    slow.settimeout(PATIENCE)
    for i in range(3 * DESCRIPTORS):
        crowd.append(half_open(d.port, i))
    # The crowd's last one is accepted behind all others.
    crowd[-1].sendall(b"x / HTTP/1.1\r\n\r\n")
    crowd[-1].settimeout(PATIENCE)
    assert crowd[-1].recv(100)
    slow.sendall(b"health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert slow.recv(100).startswith(b"HTTP/1.1 200 ")
    for s in [slow, *crowd]:
        s.close()


async def test_the_admin_has_room_of_his_own(tight):
    """Nobody can be ended: all wait for an answer that is due.  Who comes is told so, but not on the admin listener."""
    d = tight({"limits.requests_per_user": 0, "server.drain_time": "1s"})
    lock = await d.register("lock")
    door = await d.device("lock", lock)
    body = b'{"deviceId":"lock","command":"c","timeoutMs":300000,"queueMs":300000}'
    request = (f"POST /api/command?wait=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\nContent-Type: application/json\r\n"
               f"Content-Length: {len(body)}\r\n\r\n").encode() + body
    waiting = []
    for _ in range(2 * DESCRIPTORS):
        waiting.append(socket.create_connection(("127.0.0.1", d.port), PATIENCE))
        with contextlib.suppress(OSError):		# of those that have not said it yet
            waiting[-1].sendall(request)

    async def is_full():
        return (await get(d.http + "/health"))[0] == 503

    await eventually(is_full)
    for _ in range(20):
        assert (await get(d.admin + "/health"))[0] == 200
    for s in waiting:
        s.close()
    await door.close()


async def test_sessions_leave_room(tight):
    """Those that come again for a session that they have, requests, and the admin listener find room when no further session does."""
    d = tight()
    lock = await d.register("lock")
    door = await d.device("lock", lock)
    users = []
    with pytest.raises(Refused) as e:
        while len(users) < DESCRIPTORS:
            users.append(await d.user(f"u{len(users)}"))
    assert e.value.code == 1013 and len(users) > DESCRIPTORS / 2
    for _ in range(3):
        newer = await d.device("lock", lock)
        assert await door.closed() == (4009, "Replaced")
        door = newer
    assert (await get(d.http + "/health/ready"))[0] == 200
    assert (await d.rest("GET", "/api/device"))[0] == 200
    # All that is left is taken by silent ones: of the admin's way in, by itself.
    held = [half_open(d.port, 0) for _ in range(100)]
    for _ in "12":
        assert (await get(d.admin + "/health/ready"))[0] == 200
        assert (await get(d.http + "/health"))[0] == 200
        admin = int(d.settings["server.admin_listen"].split(":")[1])
        held += [half_open(admin, 0) for _ in range(100)]
    with pytest.raises(Refused) as e:
        await d.user("one-more")
    assert e.value.code == 1013
    for c in users:
        assert (await c.ask("ping"))["type"] == "pong"
    await users.pop().close()

    async def again():
        with contextlib.suppress(Refused):
            return await d.user("one-more")
    users.append(await eventually(again))
    for s in held:
        s.close()
    for c in users + [door]:
        await c.close()


async def test_health_of_a_full_instance(start, tmp_path):
    """Who asks how it is learns that also when it is full: with TLS, behind a proxy, and behind many who say nothing."""
    certificate, key = Authority(tmp_path).issue("belay")
    tls = free_port()
    d = start({"limits.connections": 3, "server.tls_listen": f"127.0.0.1:{tls}", "server.tls_certificate": str(certificate),
               "server.tls_key": str(key), "server.proxy_protocol": "true", "server.trusted_proxies": "127.0.0.7",
               "server.admin_listen": f"127.0.0.1:{free_port()}"}, workers=1, wait=False)
    await eventually(lambda: asyncio.to_thread(reachable, d.port))
    users = []

    async def fill():
        with contextlib.suppress(Refused):
            users.append(await d.user(f"u{len(users)}"))
        return len(users) == 3
    await eventually(fill)

    def ask(path, port=d.port, proxied=False, wrap=False):
        with socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=("127.0.0.7" if proxied else "127.0.0.1", 0)) as s:
            if proxied:
                s.sendall(v2("203.0.113.7"))
            if wrap:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                s = context.wrap_socket(s)
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\n\r\n".encode())
            out = b""
            while piece := s.recv(4096):		# it is closed: no place is kept
                out += piece
            s.close()
            return int(out.split()[1])

    silent = []
    for n in (0, 600):
        silent += [half_open(d.port, 0, "127.0.0.5") for _ in range(n)]
        for way in ({}, {"proxied": True}, {"port": tls, "wrap": True}, {"port": tls, "wrap": True, "proxied": True}):
            for path in ("/health", "/health/ready", "/api/health"):
                assert await asyncio.to_thread(ask, path, **way) == 200, (n, way, path)
            assert await asyncio.to_thread(ask, "/api/device", **way) == 503, (n, way)
    for s in silent:
        s.close()
    for c in users:
        assert (await c.ask("ping"))["type"] == "pong"
        await c.close()


def reachable(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE) as s:
        s.sendall(b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b" 200 " in s.recv(4096)


async def test_silent_connections_are_no_places(start):
    """All that limits.connections lets in say nothing: after a moment they make room for those who do."""
    d = start({"limits.connections": 6, "limits.handshake_time": "2m"}, workers=1)
    held = [half_open(d.port, 0) for _ in range(6)]
    users = []

    async def one_more():
        with contextlib.suppress(Refused):
            users.append(await d.user(f"u{len(users)}"))
        return len(users) == 6
    await eventually(one_more)
    for c in users:
        assert (await c.ask("ping"))["type"] == "pong"
    with pytest.raises(Refused):
        await d.user("u7")
    for s in held:
        s.settimeout(PATIENCE)
        assert s.recv(100).startswith(b"HTTP/1.1 503 ")
        s.close()
    for c in users:
        await c.close()
