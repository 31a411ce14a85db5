"""What the scenarios share: a private belayd in a temporary folder, tokens, REST and WebSocket clients.

Everything is on loopback, on a free port, and stopped by process id.
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import aiohttp
import jwt
import websockets

import moved

# BELAY_… is what belayd takes for its settings: the tests have names of their own.  The older one is taken too, and goes no further.
if "BELAY_BUILD" in os.environ:
    os.environ.setdefault("TEST_BUILD", os.environ.pop("BELAY_BUILD"))
BUILD = Path(os.environ.get("TEST_BUILD", Path(__file__).resolve().parents[2] / "build"))
SECRET = "scenario-secret-of-more-than-thirty-two-bytes"


def clean_environment(**more):
    """Ours without what belayd and belayctl would take for settings, and with more."""
    return {k: v for k, v in os.environ.items() if not k.startswith("BELAY_") and k not in ("JWT_SECRET", "PORT")} | more


# Logs of all belayds that were made here, and how much of each conftest.py has looked at.
LOGS = {}

# Seconds: longer than anything takes on a slow and busy machine, under sanitizers too.  Only what never comes is waited for so long;
# where something has to be quick, the test says so, by a Stopwatch.
PATIENCE = 90


PORTS = 2500		# of each worker of xdist
ports = itertools.count(os.getpid() % PORTS)


def free_port():
    """Below those that the system gives to whoever connects, so that it is free still when it is used; no other worker's."""
    first = 10000 + PORTS * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8)
    for n in itertools.islice(ports, PORTS):
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", first + n % PORTS))
            return first + n % PORTS
    raise AssertionError("no port is free")


def token(user="u1", tenant="t1", role=None, ttl=3600, secret=SECRET, algorithm="HS256", headers=None, **claims):
    payload = {"sub": user, "exp": int(time.time()) + ttl, **claims}
    if tenant is not None:
        payload["tenant_id"] = tenant
    if role is not None:
        payload["role"] = role
    if user is None:
        del payload["sub"]
    return jwt.encode(payload, secret, algorithm=algorithm, headers=headers)


class Refused(Exception):
    """The server closed the connection instead of greeting."""

    def __init__(self, code, reason):
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class Client:
    """One WebSocket connection that speaks the protocol."""

    def __init__(self, ws):
        self.ws = ws
        self.connected = None
        self.kept = []

    async def recv(self, timeout=PATIENCE):
        return json.loads(await asyncio.wait_for(self.ws.recv(), timeout))

    async def send(self, type, payload=None, id=None):
        message = {"type": type}
        if payload is not None:
            message["payload"] = payload
        if id is not None:
            message["id"] = id
        await self.ws.send(json.dumps(message))

    async def expect(self, type, timeout=PATIENCE, where=lambda m: True):
        """The next message of that type; others are kept in order for later calls."""
        for i, m in enumerate(self.kept):
            if m["type"] == type and where(m):
                return self.kept.pop(i)
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {type} came within {timeout} s; there was {self.kept}")
            try:
                m = await self.recv(left)
            except asyncio.TimeoutError:
                continue
            if m["type"] == type and where(m):
                return m
            self.kept.append(m)

    async def ask(self, type, payload=None, timeout=PATIENCE):
        """Sends a request with an id and returns the message that answers it."""
        id = secrets.token_hex(6)
        await self.send(type, payload, id)
        end = time.monotonic() + timeout
        while True:
            m = await self.recv(max(0.01, end - time.monotonic()))
            if m.get("re") == id:
                return m
            self.kept.append(m)

    async def nothing(self, type, seconds=0.3, where=lambda m: True):
        """No message of that type: a ping is answered behind all that was on its way, and then for a while."""
        await asyncio.sleep(seconds)
        answer = await self.ask("ping")
        assert answer["type"] == "pong", answer
        assert not [m for m in self.kept if m["type"] == type and where(m)], self.kept

    async def closed(self, timeout=PATIENCE):
        """Waits for the end: (code, reason)."""
        end = time.monotonic() + timeout
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                self.kept.append(json.loads(await asyncio.wait_for(self.ws.recv(), max(0.01, end - time.monotonic()))))
        return self.ws.close_code, self.ws.close_reason

    async def close(self):
        """What still comes is read and thrown away: with its queue full the library does not see that the server closes, too."""
        closing = asyncio.ensure_future(self.ws.close())
        with contextlib.suppress(websockets.ConnectionClosed, RuntimeError):		# RuntimeError: somebody else reads
            while True:
                await self.ws.recv()
        await closing


class Belayd:
    """A running belayd of its own."""

    hears = None		# what the master tells its service manager, until it has said that all is there

    def __init__(self, folder, settings=None, workers=2, store=None, args=(), env=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.args = list(args)
        self.env = env or {}
        self.settings = {
            "server.listen": f"127.0.0.1:{self.port}",
            "server.run_dir": str(self.folder),
            "server.workers": workers,
            "server.instance": "belay-test",
            "server.drain_time": "3s",
            "limits.requests_per_user": 0,	# tests of a file share a user and a belayd, and ask as fast as they are answered
            "store.url": store or f"sqlite://{self.folder}/belay.db",
            "auth.jwt_secret": SECRET,
            **(settings or {}),
        }
        self.service_key = "bsk_" + secrets.token_urlsafe(32)
        digest = hashlib.sha256(self.service_key.encode()).hexdigest()
        self.settings.setdefault("auth.service_keys", f"backend:*:{digest}")
        self.process = None
        self.log_path = self.folder / "belayd.log"
        LOGS.setdefault(self.log_path, 0)

    def command(self, *extra):
        out = [str(BUILD / "belayd"), "-f"]
        conf = self.folder / "belayd.conf"
        conf.touch()
        out += ["-c", str(conf)]
        for name, value in self.settings.items():
            out += ["-o", f"{name}={value}"]
        return out + self.args + list(extra)

    def start(self, wait=True):
        self.log = open(self.log_path, "ab")
        env = dict(self.env)
        self.hears = None
        if "NOTIFY_SOCKET" not in env:
            self.hears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.hears.bind(f"\0belay-test-{secrets.token_hex(12)}")
            env["NOTIFY_SOCKET"] = "@" + self.hears.getsockname()[1:].decode()
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=clean_environment(**env))
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout=PATIENCE):
        """Until all processes are there, which the master tells its service manager once; later, until clients are served."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"belayd ended with {self.process.returncode}:\n{self.log_text()}")
            if self.hears is not None:
                self.hears.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if b"READY=1" in self.hears.recv(4096):
                        self.hears.close()
                        self.hears = None
                        return
                continue
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as s:
                s.sendall(b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                s.settimeout(timeout)
                if b" 200 " in s.recv(4096).split(b"\r\n")[0]:
                    return
            time.sleep(0.02)
        raise AssertionError(f"belayd is not ready:\n{self.log_text()}")

    def log_text(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def stop(self, sig=signal.SIGTERM, timeout=PATIENCE):
        if self.process is None:
            return None
        if self.process.poll() is None:
            moved.ask(self)
            self.process.send_signal(sig)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"belayd did not stop:\n{self.log_text()[-4000:]}")
        code = self.process.returncode
        self.process = None
        self.log.close()
        return code

    def workers(self, role=None):
        """Process ids of the workers by title: {"gateway 1": pid, …}; one that has just been forked and has no title yet is left out."""
        out = {}
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in children:
            with contextlib.suppress(OSError):
                title = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
                name = title.split("belayd: ", 1)[-1].strip()
                if name != "master" and (role is None or name.startswith(role)):
                    out[name] = int(pid)
        return out

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.port}"

    @property
    def http(self):
        return f"http://127.0.0.1:{self.port}"

    async def raw(self, path="/ws", headers=None, subprotocols=None, **kwargs):
        kwargs.setdefault("open_timeout", PATIENCE)
        kwargs.setdefault("close_timeout", 5)
        kwargs.setdefault("ping_interval", None)
        kwargs.setdefault("compression", None)
        kwargs.setdefault("max_size", None)
        return Client(await websockets.connect(self.url + path, extra_headers=headers or {}, subprotocols=subprotocols, **kwargs))

    async def open(self, path="/ws", headers=None, **kwargs):
        """Connects and waits for the greeting; Refused says code and reason."""
        c = await self.raw(path, headers, **kwargs)
        try:
            c.connected = await c.recv()
        except websockets.ConnectionClosed:
            raise Refused(c.ws.close_code, c.ws.close_reason) from None
        if c.connected["type"] == "error":		# says why, and when to come back, before the code does
            raise Refused(*await c.closed())
        assert c.connected["type"] == "connected", c.connected
        return c

    async def user(self, user="u1", tenant="t1", role=None, query="", local_addr=None, **claims):
        bearer = token(user, tenant, role, **claims)
        extra = {"local_addr": local_addr} if local_addr else {}
        return await self.open("/ws" + query, {"Authorization": f"Bearer {bearer}"}, **extra)

    async def device(self, device_id, device_token, query="", **kwargs):
        return await self.open(f"/ws?device={device_id}{query}", {"Authorization": f"Bearer {device_token}"}, **kwargs)

    async def rest(self, method, path, body=None, bearer=None, headers=None, raw=False, timeout=PATIENCE, **kwargs):
        """(status, body).  bearer: a token; None: user u1 of tenant t1; "" for none."""
        headers = dict(headers or {})
        if bearer != "":
            headers["Authorization"] = f"Bearer {bearer or token()}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as session:
            async with session.request(method, self.http + path, json=body, headers=headers, **kwargs) as r:
                if raw:
                    return r.status, r.headers, await r.read()
                text = await r.text()
                return r.status, json.loads(text) if text else None

    async def register(self, device_id, bearer=None, **fields):
        """Registers a device and returns its token."""
        status, body = await self.rest("POST", "/api/device/register", {"deviceId": device_id, "name": device_id, **fields}, bearer)
        assert status == 201, (status, body)
        return body["deviceToken"]

    async def metric(self, name):
        status, _, body = await self.rest("GET", "/metrics", bearer=self.service_key, raw=True)
        assert status == 200, body
        moved.note(body.decode())
        for line in body.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
        raise KeyError(name)

    async def counted(self, name, least):
        """Waits until a counter is so high."""
        async def high():
            return await self.metric(name) >= least
        await eventually(high)


class Stopwatch:
    """The time that something takes, without the time in which the machine let belayd or the test wait for a processor.

    The kernel keeps account of that (/proc/PID/schedstat).  On a machine that is busy with other things the clock on the wall
    says little about belayd; this says what it needed of its own.
    """

    def __init__(self, daemon):
        self.master = daemon.process.pid
        self.first, self.last = {}, {}
        self.sample()
        self.first = dict(self.last)
        self.began = time.monotonic()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def sample(self):
        children = []
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self.master}/task/{self.master}/children").read_text().split()
        for pid in (os.getpid(), self.master, *map(int, children), *self.last):
            with contextlib.suppress(OSError):
                self.last[pid] = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])

    def watch(self):
        while not self.over.wait(0.02):
            self.sample()

    def stop(self):
        """Seconds by the clock on the wall, and without the waiting."""
        elapsed = time.monotonic() - self.began
        self.over.set()
        self.thread.join()
        self.sample()
        return elapsed, elapsed - sum(waited - self.first.get(pid, 0) for pid, waited in self.last.items()) / 1e9


async def eventually(check, timeout=PATIENCE, every=0.02):
    """Calls check (which may be a coroutine function) until it returns something true, and returns that."""
    end = time.monotonic() + timeout
    while True:
        value = check()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(every)


async def run_device(client, answer=None):
    """A device that executes every command once; returns the list it fills with (commandId, command)."""
    done = []

    async def loop():
        with contextlib.suppress(websockets.ConnectionClosed, asyncio.CancelledError):
            while True:
                m = await client.recv(3600)
                if m["type"] == "command":
                    p = m["payload"]
                    done.append(p["commandId"])
                    ack = {"commandId": p["commandId"], "status": "executed", "result": {"ok": True}}
                    if answer:
                        ack = answer(p)
                    if ack:
                        await client.send("command_ack", ack)
                else:
                    client.kept.append(m)

    client.task = asyncio.ensure_future(loop())
    return done
