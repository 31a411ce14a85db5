"""A small world under load: devices that come back by themselves and remember what they ran, controllers that repeat a
request with the same idempotency key until it is answered, and the bookkeeping that says in the end whether anything
was lost or done twice.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import secrets
import signal
import sqlite3
import time
from pathlib import Path

import aiohttp
import websockets

import belay
from belay import PATIENCE, Refused, eventually

SANITIZED = b"__asan_init" in (belay.BUILD / "belayd").read_bytes() if (belay.BUILD / "belayd").exists() else False
LOST = (OSError, EOFError, asyncio.TimeoutError, websockets.WebSocketException, Refused, AssertionError)


class Device:
    """Runs each command once, whatever it is told twice; answers reconcile from memory that outlives its connections."""

    def __init__(self, daemon, name, bdt, rng):
        self.daemon, self.name, self.token, self.rng = daemon, name, bdt, rng
        self.ran = {}			# commandId → how it was answered
        self.deliveries = 0
        self.epochs = []		# of the connections that were accepted
        self.client = None
        self.wanted = True
        self.drops = 0.01		# how often it leaves right after it ran something, before it says so
        self.mute = 0.01		# how often it says nothing at all
        self.task = asyncio.ensure_future(self.live())

    @property
    def online(self):
        return self.client is not None

    async def live(self):
        while self.wanted:
            try:
                client = await asyncio.wait_for(self.daemon.device(self.name, self.token), PATIENCE)
            except LOST:
                await asyncio.sleep(self.rng.uniform(0.02, 0.15))
                continue
            self.epochs.append(client.connected["payload"]["epoch"])
            self.client = client
            with contextlib.suppress(*LOST):
                await self.serve(client)
            self.client = None
            with contextlib.suppress(*LOST):
                await asyncio.wait_for(client.ws.close(), PATIENCE)

    async def serve(self, client):
        while True:
            m = await client.recv(3600)
            if m["type"] == "reconcile":
                for id in m["payload"]["commandIds"]:
                    await self.ack(client, id, self.ran.get(id, "unknown"))
            elif m["type"] == "command":
                await self.command(client, m["payload"])

    async def command(self, client, p):
        id = p["commandId"]
        self.deliveries += 1
        known = self.ran.get(id)
        if known is None:
            self.ran[id] = known = "failed" if self.rng.random() < 0.05 else "executed"
            if self.rng.random() < 0.2:
                await self.ack(client, id, "accepted")
            if self.rng.random() < self.drops:
                await client.ws.close()
                return
            if self.rng.random() < self.mute:
                return
        await self.ack(client, id, known)

    async def ack(self, client, id, status):
        await client.send("command_ack", {"commandId": id, "status": status})

    async def stop(self):
        self.wanted = False
        if self.client is not None:
            await self.client.ws.close()
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, *LOST):
            await self.task


class Controller:
    """Orders commands, by WebSocket or by REST, each under a key of its own, until each is answered."""

    def __init__(self, fleet, n, by_rest):
        self.fleet, self.n, self.by_rest = fleet, n, by_rest
        self.rng = random.Random(fleet.seed * 1000 + n)
        self.client = None
        self.task = asyncio.ensure_future(self.live())

    async def live(self):
        try:
            while self.fleet.loaded:
                device = self.rng.choice(self.fleet.devices)
                body = {"deviceId": device.name, "command": self.rng.choice(("unlock_door", "ring", "x_1")), "params": {"n": self.rng.random()},
                        "timeoutMs": self.rng.choice((1000, 2000, 4000)), "idempotencyKey": secrets.token_hex(12),
                        "queueMs": self.rng.choice((0, 8000, 8000))}
                await self.order(device, body)
                await asyncio.sleep(self.rng.expovariate(1 / self.fleet.pause))
        finally:
            if self.client is not None:
                with contextlib.suppress(*LOST):
                    await asyncio.wait_for(self.client.ws.close(), PATIENCE)

    async def order(self, device, body):
        began = time.monotonic()
        while True:
            answer = None
            try:
                answer = await (self.ask_rest(body) if self.by_rest else self.ask_socket(body))
            except (*LOST, aiohttp.ClientError, json.JSONDecodeError):
                self.client = None
            if answer in ("again", None):
                self.fleet.retries += 1
                assert time.monotonic() - began < 60, "a request is not answered for a minute"
                await asyncio.sleep(self.rng.uniform(0.01, 0.1))
                continue
            self.fleet.waits.append(time.monotonic() - began)
            if answer == "refused":
                self.fleet.refused.add(body["idempotencyKey"])
            else:
                self.fleet.answered[answer] = device
            return

    async def ask_socket(self, body):
        if self.client is None:
            self.client = await asyncio.wait_for(self.fleet.daemon.user("u1"), PATIENCE)
            await self.client.ask("subscribe", {"devices": []}, 40)
        m = await self.client.ask("command", body, 40)
        self.client.kept.clear()
        if m["type"] == "command_status":
            return m["payload"]["commandId"]
        code = m["payload"]["code"]
        assert code in ("device_offline", "unavailable", "internal"), m
        return "refused" if code == "device_offline" else "again"

    async def ask_rest(self, body):
        status, answer = await self.fleet.daemon.rest("POST", "/api/command", body)
        if status == 202:
            return answer["command"]["commandId"]
        self.fleet.unexpected += status not in (409, 503)
        return "refused" if status == 409 else "again"


class Fleet:
    def __init__(self, daemon, devices=12, controllers=6, pause=0.02, seed=None):
        self.daemon, self.wanted_devices, self.wanted_controllers, self.pause = daemon, devices, controllers, pause
        self.seed = seed if seed is not None else int.from_bytes(os.urandom(3), "big")
        self.rng = random.Random(self.seed)
        self.devices, self.controllers = [], []
        self.loaded = False
        self.answered = {}		# commandId → Device
        self.refused = set()		# keys
        self.retries = self.unexpected = 0
        self.waits = []			# seconds until each request was answered

    async def start(self):
        for n in range(self.wanted_devices):
            name = f"f{self.seed}-{n}"
            self.devices.append(Device(self.daemon, name, await self.daemon.register(name), random.Random(self.seed * 77 + n)))
        await eventually(lambda: all(d.online for d in self.devices))
        self.load()
        return self

    def load(self):
        self.loaded = True
        self.controllers = [Controller(self, n, n % 3 == 2) for n in range(self.wanted_controllers)]

    async def unload(self, timeout=70):
        """No new requests; those under way are answered first."""
        self.loaded = False
        await asyncio.wait_for(asyncio.gather(*(c.task for c in self.controllers)), timeout)
        self.controllers = []

    async def stop(self):
        if self.controllers:
            await self.unload()
        await asyncio.gather(*(d.stop() for d in self.devices))

    async def pages(self, path, member):
        cursor, out = "", []
        while True:
            status, body = await self.daemon.rest("GET", f"{path}?limit=500{cursor}")
            assert status == 200, body
            out += body[member]
            if body["nextCursor"] is None:
                return out
            cursor = f"&cursor={body['nextCursor']}"

    async def commands(self):
        """All commands of all devices, by id, when every one has come to an end."""
        while True:
            out = {}
            for d in self.devices:
                for c in await self.pages(f"/api/device/{d.name}/commands", "commands"):
                    assert c["commandId"] not in out
                    out[c["commandId"]] = c
            if all(c["finishedAt"] for c in out.values()):
                return out
            await asyncio.sleep(0.3)

    async def judge(self, timeout=40):
        """Is everything accounted for?  A summary; an assertion fails where something is not."""
        commands = await asyncio.wait_for(self.commands(), timeout)
        lost = [id for id in self.answered if id not in commands]
        strangers = [id for id in commands if id not in self.answered]
        ran = {id: d for d in self.devices for id in d.ran}
        doubled = [id for id in ran if id not in self.answered]
        assert not lost, f"answered and lost: {lost}"
        assert not doubled, f"ran under an id that no request was answered with: {doubled}"
        assert not strangers, f"stored under an id that no request was answered with: {strangers}"
        assert self.unexpected == 0
        lies = []
        for id, c in commands.items():
            device = self.answered[id]
            assert c["deviceId"] == device.name
            did = device.ran.get(id)
            if c["outcome"] == "not_sent" and did or c["outcome"] == "confirmed" and c["status"] != did:
                lies.append((did, c))
            if c["status"] in ("executed", "failed") and did is None and c["outcome"] != "not_sent":
                lies.append((did, c))
            assert c["safeToRetry"] == (c["outcome"] == "not_sent"), c
        assert not lies, lies
        await self.judge_events(commands)
        outcomes = {}
        for c in commands.values():
            key = f"{c['status']}{' late' if c['late'] else ''} {c['outcome']}"
            outcomes[key] = outcomes.get(key, 0) + 1
        return {"commands": len(commands), "lost": len(lost), "doubled": len(doubled), "refused": len(self.refused), "retries": self.retries,
                "redelivered": sum(d.deliveries - len(d.ran) for d in self.devices), "connections": sum(len(d.epochs) for d in self.devices),
                "slowest answer (s)": round(max(self.waits, default=0), 2), "outcomes": outcomes}

    async def judge_events(self, commands):
        """The log tells each thing once."""
        for d in self.devices:
            events = await self.pages(f"/api/device/{d.name}/events", "events")
            seen, ids = {}, set()
            for e in events:
                assert e["eventId"] not in ids
                ids.add(e["eventId"])
                if e["event"].startswith("command_"):
                    key = (e["event"], e["data"]["commandId"])
                else:
                    key = (e["event"], e.get("epoch"))
                    if e["event"] in ("device_connected", "device_disconnected"):
                        continue
                seen[key] = seen.get(key, 0) + 1
            mine = {id: c for id, c in commands.items() if c["deviceId"] == d.name}
            for id, c in mine.items():
                for status in ("executed", "failed", "timeout", "expired"):
                    happened = seen.get((f"command_{status}", id), 0)
                    was = sum(t["step"] == status for t in c["trace"])
                    assert happened == (1 if was else 0), (status, happened, c)
                sent = sum(t["step"] == "sent" for t in c["trace"])
                assert seen.get(("command_sent", id), 0) == sent, (seen.get(("command_sent", id), 0), c)
        self.judge_connections()

    def judge_connections(self):
        """From the store itself, which knows each event's epoch: one connect for each connection, and at most one end."""
        path = str(self.daemon.settings["store.url"]).removeprefix("sqlite://")
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        for d in self.devices:
            rows = db.execute("SELECT e.event, e.epoch, count(*) FROM events e JOIN devices d ON d.device_pk = e.device_pk "
                              "WHERE d.device_id = ? AND e.event IN ('device_connected', 'device_disconnected') GROUP BY 1, 2", (d.name,)).fetchall()
            connected = {epoch: n for event, epoch, n in rows if event == "device_connected"}
            gone = {epoch: n for event, epoch, n in rows if event == "device_disconnected"}
            assert all(n == 1 for n in connected.values()), (d.name, connected)
            assert all(n == 1 for n in gone.values()), (d.name, gone)
            assert set(gone) <= set(connected)
            assert set(d.epochs) <= set(connected), "a connection was accepted that the log does not know"
            assert len(d.epochs) == len(set(d.epochs))
            assert d.epochs == sorted(d.epochs)
        db.close()

    async def presence_is_true(self, timeout=10):
        async def same():
            for d in self.devices:
                _, body = await self.daemon.rest("GET", f"/api/device/{d.name}")
                p = body["device"]["presence"]
                if (p["status"] != "offline") != d.online or (d.online and p["epoch"] != d.epochs[-1]):
                    return False
            return True
        await eventually(same, timeout, 0.1)

    async def nothing_is_left(self, timeout=10):
        """With all clients gone every gauge is back at nothing."""
        async def zero():
            names = {'belay_websocket_open{party="user"}': 0, 'belay_websocket_open{party="device"}': 0, "belay_connections_open": 1,
                     "belay_devices_online": 0, "belay_commands_pending": 0}
            self.left = {n: await self.daemon.metric(n) for n, v in names.items() if await self.daemon.metric(n) != v}
            _, body = await self.daemon.rest("GET", "/api/health/detailed", bearer=self.daemon.service_key)
            if body["memory"]["audiences"] != 0:
                self.left["audiences"] = body["memory"]["audiences"]
            return not self.left
        try:
            await eventually(zero, timeout, 0.1)
        except AssertionError:
            raise AssertionError(f"left behind: {self.left}") from None


def processes(daemon):
    return {"master": daemon.process.pid, **daemon.workers()}


def pss(pid):
    """Bytes: the process's own memory and its share of what it shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    return 0


async def kill(daemon, name, timeout=15):
    """kill -9, and waits until the master has put another in its place."""
    pid = daemon.workers()[name]
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: daemon.workers().get(name, pid) != pid, timeout)


@contextlib.contextmanager
def stopped(*pids):
    """SIGSTOP, in force when the block begins; SIGCONT at its end."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
                time.sleep(0.001)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def taken_by(daemon, gateway):
    """Connections that are made in this block come to this gateway: it alone is there to take them.

    Otherwise it is the kernel's choice, and that may be the same gateway each time.
    """
    return stopped(*(pid for name, pid in daemon.workers("gateway").items() if name != gateway))


async def kill_everything(daemon):
    """The whole instance at one moment, as if the machine had stopped; returns when it runs again."""
    pids = [daemon.process.pid, *daemon.workers().values()]
    os.kill(pids[0], signal.SIGSTOP)		# it must not start anything between the blows
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    daemon.process.wait()
    await eventually(lambda: not any(Path(f"/proc/{p}/cmdline").exists() and Path(f"/proc/{p}/cmdline").read_bytes() for p in pids))
    daemon.process = None
    daemon.log.close()
    daemon.start(wait=False)
    await asyncio.get_running_loop().run_in_executor(None, daemon.wait_ready)


async def kill_master(daemon):
    """Only the master, and a new one at once, while the workers of the old one are leaving; returns when it runs."""
    daemon.process.kill()
    daemon.process.wait()
    end = time.monotonic() + 10
    while True:
        daemon.log.close()
        daemon.start(wait=False)
        # Whoever answers at the port may be a gateway of the old one, so the log is asked.
        ready = re.compile(rf"master.{daemon.process.pid}.: belayd .* is ready")
        await eventually(lambda: daemon.process.poll() is not None or ready.search(daemon.log_text()))
        if daemon.process.poll() is None:
            return
        assert daemon.process.returncode == 2 and time.monotonic() < end		# the port was taken yet
