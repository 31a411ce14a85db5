"""A right that is withdrawn ends on a thousand open dashboards at once: protocol section 7.

TEST_VIEWERS says how many there are.
"""

import asyncio
import base64
import contextlib
import json
import os
import time

import aiohttp
import websockets

from belay import PATIENCE, Stopwatch, eventually, token
from fleet import taken_by

VIEWERS = int(os.environ.get("TEST_VIEWERS", 1000))
USERS = 100			# each with a share, and as many dashboards as the others
EVERY = 0.05			# seconds from one telemetry message to the next
SETTINGS = {"limits.message_rate": 100000, "limits.message_burst": 100000, "limits.requests_per_user": 0, "server.hang_time": "60s"}


class Viewer(asyncio.Protocol):
    """A dashboard with nothing but what is asked of it here, so that one process can be a thousand of them."""

    def __init__(self, user):
        self.user, self.buffer, self.open, self.pongs = user, b"", asyncio.get_running_loop().create_future(), 0
        self.last = 0			# number of the newest telemetry message
        self.ended = False

    def connection_made(self, transport):
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(f"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        f"Sec-WebSocket-Key: {key}\r\nAuthorization: Bearer {token(self.user)}\r\n\r\n".encode())

    def data_received(self, data):
        self.buffer += data
        if not self.open.done() and b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            assert head.startswith(b"HTTP/1.1 101 "), head
        while len(self.buffer) >= 2:
            at, length = 2, self.buffer[1]
            if length == 126:
                at, length = 4, int.from_bytes(self.buffer[2:4], "big")
            if len(self.buffer) < at + length:
                return
            opcode, payload, self.buffer = self.buffer[0] & 15, self.buffer[at:at + length], self.buffer[at + length:]
            if opcode == 1:
                self.message(json.loads(payload))

    def message(self, m):
        if m["type"] == "connected":
            self.open.set_result(self)
        elif m["type"] == "telemetry":
            self.last = m["payload"]["data"]["n"]
        elif m["type"] == "pong":
            self.pongs += 1

    def connection_lost(self, why):
        self.ended = True

    def ping(self):
        """Masked with zeros."""
        self.transport.write(b"\x81\x8f\x00\x00\x00\x00" + b'{"type":"ping"}')


class Teller:
    """The device: numbered telemetry without end, and when each was sent."""

    def __init__(self, client):
        self.client, self.sent = client, {}
        self.task = asyncio.ensure_future(self.run())

    async def run(self):
        n = 0
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                n += 1
                self.sent[n] = time.monotonic()
                await self.client.send("telemetry", {"data": {"n": n}})
                await asyncio.sleep(EVERY)


async def everything_heard(viewers):
    """What was on its way to them has come: a ping is answered behind it."""
    before = [v.pongs for v in viewers]
    for v in viewers:
        v.ping()
    await eventually(lambda: all(v.pongs > n for v, n in zip(viewers, before)))


async def all_hear(viewers, teller):
    """Everyone hears what is told from now on."""
    n = len(teller.sent)
    await eventually(lambda: all(v.last > n for v in viewers))


def judge(what, viewers, teller, asked, waited):
    """When what each one heard last was told, after its right was asked to be withdrawn: seconds, the 99th of a hundred below one."""
    lags = sorted(max(0, teller.sent[v.last] - asked[v]) for v in viewers)
    p99 = lags[int(len(lags) * 0.99)]
    print(f"{what}: {len(viewers)} viewers, p50 {lags[len(lags) // 2]:.3f} s, p99 {p99:.3f} s, worst {lags[-1]:.3f} s")
    assert p99 - waited < 1, lags[-20:]


async def lags(daemon):
    """The daemon's own account: how many, and how many of them in half a second and in one."""
    name = "belay_revocation_lag_seconds"
    return {k: await daemon.metric(f"{name}_{k}") for k in ("count", 'bucket{le="1.000000"}')}


async def test_a_thousand_dashboards(start):
    """The token of their device rotated, the shares of half of them revoked, the device deleted: each time they hear no more."""
    daemon = start(SETTINGS, workers=2)
    loop = asyncio.get_running_loop()
    bdt = await daemon.register("rv")
    users = [f"viewer{n}" for n in range(USERS)]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token()}"}) as session:

        async def rest(method, path, body=None):
            async with session.request(method, daemon.http + path, json=body) as r:
                assert r.status < 300, await r.text()
                return json.loads(await r.text() or "null")

        await asyncio.gather(*(rest("POST", "/api/device/rv/share", {"userId": u, "permission": "view"}) for u in users))
        viewers = []
        for gateway, n in (("gateway 1", VIEWERS // 2), ("gateway 2", VIEWERS - VIEWERS // 2)):
            for some in range(0, n, 50):			# what the listener's backlog surely takes
                with taken_by(daemon, gateway):
                    new = [Viewer(users[len(viewers) % USERS]) for _ in range(min(50, n - some))]
                    for v in new:
                        await loop.create_connection(lambda v=v: v, "127.0.0.1", daemon.port)
                        viewers.append(v)
                    await asyncio.gather(*(v.open for v in new))
        keeps = Viewer("u1")
        await loop.create_connection(lambda: keeps, "127.0.0.1", daemon.port)
        assert (await keeps.open) and await daemon.metric('belay_websocket_open{party="user"}') == VIEWERS + 1

        # The token: whoever holds the old one tells nobody anything any more.
        teller = Teller(await daemon.device("rv", bdt))
        await all_hear(viewers + [keeps], teller)
        watch, asked = Stopwatch(daemon), time.monotonic()
        bdt = (await rest("POST", "/api/device/rv/token"))["deviceToken"]
        await asyncio.wait_for(teller.task, PATIENCE)
        assert teller.client.ws.close_code == 4011
        await everything_heard(viewers)
        elapsed, needed = watch.stop()
        judge("token rotated", viewers, teller, dict.fromkeys(viewers, asked), elapsed - needed)

        # The shares of half of the users.
        for v in viewers + [keeps]:
            v.last = 0
        teller = Teller(await daemon.device("rv", bdt))
        await all_hear(viewers + [keeps], teller)
        revoked = users[:USERS // 2]
        out, stay = [v for v in viewers if v.user in revoked], [v for v in viewers if v.user not in revoked]
        when = {}

        async def revoke(user):
            when[user] = time.monotonic()
            await rest("DELETE", f"/api/device/rv/share/{user}")

        watch = Stopwatch(daemon)
        await asyncio.gather(*(revoke(u) for u in revoked))
        answered = len(teller.sent)
        await all_hear(stay + [keeps], teller)
        await everything_heard(out)
        heard = [v.last for v in out]
        elapsed, needed = watch.stop()
        await eventually(lambda: keeps.last > answered + 20)		# a while in which there was something to hear
        await everything_heard(out)
        assert [v.last for v in out] == heard, "nothing comes later"
        judge("shares revoked", out, teller, {v: when[v.user] for v in out}, elapsed - needed)

        # The device.
        watch, asked = Stopwatch(daemon), time.monotonic()
        await rest("DELETE", "/api/device/rv")
        await asyncio.wait_for(teller.task, PATIENCE)
        assert teller.client.ws.close_code == 4011
        await everything_heard(viewers + [keeps])
        elapsed, needed = watch.stop()
        judge("device deleted", stay + [keeps], teller, dict.fromkeys(stay + [keeps], asked), elapsed - needed)
        assert not [v for v in viewers if v.ended], "the connections themselves stay"
        own = await lags(daemon)
        assert own["count"] == len(revoked) + 2 and own['bucket{le="1.000000"}'] >= own["count"] * 0.99, own
        for v in viewers + [keeps]:
            v.transport.abort()
