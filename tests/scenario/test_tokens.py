"""Tokens that live shorter than the connections: renewed again and again, in place, while the work goes on (protocol section 2).

TEST_TOKEN_MINUTES=90 takes tokens of a minute, as identity providers give them, and renews them for so long; without it they live
some seconds, and each is renewed some times.
"""

import asyncio
import contextlib
import datetime
import os
import random
import time

import pytest
import websockets

import fleet
from belay import eventually, token
from fleet import taken_by

MINUTES = float(os.environ.get("TEST_TOKEN_MINUTES", 0))
LIFE = 60 if MINUTES else 8
LEEWAY = 5		# an open connection ends between exp and exp + 5 s
FAST = {"limits.message_rate": 100000, "limits.message_burst": 100000}


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Holder:
    """A connection whose token is renewed whenever the server says that it expires; it keeps an account of both."""

    def __init__(self, client, who, life=LIFE):
        self.client, self.who, self.life = client, who, life
        self.rng = random.Random(str(who))
        self.expires = seconds(client.connected["payload"]["expiresAt"])
        self.warned, self.renewed, self.asked = False, 0, {}
        self.heard, self.ran = [], []		# numbers of the events and ids of the commands, as they came
        self.ended = None		# code, reason and when
        self.renews = True
        self.task = asyncio.ensure_future(self.live())

    async def live(self):
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                self.hear(await self.client.recv(3600))
        self.ended = self.client.ws.close_code, self.client.ws.close_reason, time.time()

    def hear(self, m):
        p = m.get("payload", {})
        if m["type"] == "token_expiring":
            assert seconds(p["expiresAt"]) == self.expires and not self.warned, "told once of each token"
            self.warned = True
            if self.renews:
                self.renewal = asyncio.ensure_future(self.renew())
        elif m["type"] == "ok" and m.get("re") in self.asked:
            self.expires, self.warned = self.asked.pop(m["re"]), False
            assert seconds(p["expiresAt"]) == self.expires
            self.renewed += 1
        elif m["type"] == "device_event" and p["event"] == "x_n":
            self.heard.append(p["data"]["n"])
        elif m["type"] == "command":
            self.ran.append(p["commandId"])
        assert m["type"] != "error", m

    async def renew(self):
        """At once where that is what is tried; otherwise some time in the life of the token, sometimes near its end."""
        await asyncio.sleep(self.rng.uniform(0.1, 0.95) * self.life if MINUTES else 0)
        if self.renews:
            expires, id = int(time.time()) + self.life, f"renewal {self.renewed}"
            self.asked[id] = expires
            await self.client.send("auth", {"token": token(**self.who, exp=expires)}, id)


async def holder(daemon, gateway=None, path="/ws", **who):
    bearer = {"Authorization": f"Bearer {token(**who, ttl=LIFE)}"}
    with taken_by(daemon, gateway) if gateway else contextlib.nullcontext():
        return Holder(await daemon.open(path, bearer), who)


@pytest.mark.long
async def test_renewed_again_and_again(start):
    """Users and a device at two gateways: no connection ends, nothing is missed, nothing grows; who renews no more ends in time."""
    daemon = start(FAST, workers=2)
    gateways = sorted(daemon.workers("gateway"))
    await daemon.register("d0")
    device = await holder(daemon, gateways[0], user=None, device="d0")
    users = [await holder(daemon, gateways[n % 2], user=f"admin{n}", role="admin") for n in range(6)]
    lasting, others = [device, *users], []
    began, told, ids, before = time.time(), 0, [], None

    def enough():
        if MINUTES:
            return time.time() >= began + MINUTES * 60
        # Longer than the first tokens give, with all that is allowed.
        return time.time() > began + LIFE + LEEWAY + 1 and all(h.renewed >= 3 for h in lasting)

    while not enough():
        told += 1
        await device.client.send("event", {"event": "x_n", "data": {"n": told}})
        status, body = await daemon.rest("POST", "/api/command", {"deviceId": "d0", "command": "x"}, token("boss", role="admin", ttl=LIFE))
        assert status == 202, body
        ids.append(body["command"]["commandId"])
        await device.client.send("command_ack", {"commandId": ids[-1], "status": "executed"})
        if not others or time.time() > others[-1].expires - LIFE + (LIFE if MINUTES else 2):
            others.append(await holder(daemon, user=f"other{len(others)}"))
            others[-1].renews = False
        if before is None and told > 100:
            before = memory(daemon)
        for h in lasting:
            assert not h.task.done(), (h.who, h.ended or h.task.exception())
        await asyncio.sleep(0.5 if MINUTES else 0.05)

    await eventually(lambda: all(len(u.heard) == told for u in users) and len(device.ran) == told)
    for u in users:
        assert u.heard == list(range(1, told + 1)), "each event once, in order"
    assert device.ran == ids
    grown = {n: size - before[n] for n, size in memory(daemon).items()} if before else {}
    renewed = [h.renewed for h in lasting]
    print(f"{time.time() - began:.0f} s, {sum(renewed)} renewals, at least {min(renewed)} of each; {told} events and commands; "
          f"{len(others)} did not renew; memory has grown by {grown} bytes")
    assert all(n < (64 << 20 if fleet.SANITIZED else 4 << 20) for n in grown.values()), grown
    # Renewed no more, each ends by itself, and none before its last token does.
    for h in lasting:
        h.renews = False
    for h in others + lasting:
        await asyncio.wait_for(h.task, 2 * LIFE + 60)
        assert h.ended[:2] == (1008, "Token expired") and h.ended[2] >= h.expires, (h.who, h.ended, h.expires)
    late = max(h.ended[2] - h.expires for h in others + lasting)
    print(f"they ended at most {late:.2f} s after exp")
    assert late < LEEWAY


def memory(daemon):
    return {name: fleet.pss(pid) for name, pid in daemon.workers("gateway").items()}
