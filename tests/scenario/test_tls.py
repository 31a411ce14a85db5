"""TLS listeners: wss:// and https:// with real clients, certificates that are renewed, and clients that do it wrong."""

import asyncio
import contextlib
import os
import re
import select
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import aiohttp
import pytest
import websockets

from belay import PATIENCE, Client, Refused, Stopwatch, eventually, free_port, run_device, token
from certs import Authority

pytestmark = pytest.mark.skipif(not shutil.which("openssl") or not shutil.which("curl"), reason="SKIP: openssl and curl are wanted")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue("first")


@pytest.fixture
def serve(start, certificate):
    """serve(settings…) gives a belayd that listens with TLS on .tls_port, too."""

    def go(settings=None, pair=certificate, **kwargs):
        port = free_port()
        d = start({
            "server.tls_listen": f"127.0.0.1:{port}",
            "server.tls_certificate": str(pair[0]),
            "server.tls_key": str(pair[1]),
            "server.echo": "true",
            **(settings or {}),
        }, **kwargs)
        d.tls_port = port
        return d

    return go


@pytest.fixture(scope="module")
def shared(tmp_path_factory, certificate):
    from conftest import check_log
    import belay
    port = free_port()
    d = belay.Belayd(tmp_path_factory.mktemp("tls"), {
        "server.tls_listen": f"127.0.0.1:{port}", "server.tls_certificate": str(certificate[0]),
        "server.tls_key": str(certificate[1]), "server.echo": "true",
    })
    d.tls_port = port
    d.start()
    yield d
    assert d.stop() == 0
    check_log(d)


def context(authority, **kwargs):
    c = ssl.create_default_context(cafile=str(authority.root))
    for name, value in kwargs.items():
        setattr(c, name, value)
    return c


async def wss(d, authority, path="/ws", headers=None, ctx=None, **kwargs):
    kwargs.setdefault("compression", None)
    kwargs.setdefault("ping_interval", None)
    kwargs.setdefault("max_size", None)
    kwargs.setdefault("open_timeout", PATIENCE)
    return Client(await websockets.connect(f"wss://localhost:{d.tls_port}{path}", ssl=ctx or context(authority),
                                           extra_headers=headers or {}, host="127.0.0.1", **kwargs))


async def user(d, authority, name="u1", tenant="t1", role=None, ctx=None):
    c = await wss(d, authority, headers={"Authorization": f"Bearer {token(name, tenant, role)}"}, ctx=ctx)
    c.connected = await c.recv()
    assert c.connected["type"] == "connected", c.connected
    return c


async def rest(d, authority, method, path, body=None, bearer=None):
    async with aiohttp.ClientSession() as session:
        async with session.request(method, f"https://localhost:{d.tls_port}{path}", json=body, ssl=context(authority),
                                   headers={"Authorization": f"Bearer {bearer or token()}"}) as r:
            return r.status, await r.json()


def connect(d, authority, ctx=None, session=None, timeout=PATIENCE):
    s = socket.create_connection(("127.0.0.1", d.tls_port), timeout)
    return (ctx or context(authority)).wrap_socket(s, server_hostname="localhost", session=session)


def get(s, path="/health", close=False):
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{'Connection: close' if close else 'X: y'}\r\n\r\n".encode())
    out = b""
    while b"\r\n\r\n" not in out:
        piece = s.recv(4096)
        if not piece:
            return out
        out += piece
    head, _, body = out.partition(b"\r\n\r\n")
    length = int(re.search(rb"Content-Length: (\d+)", head).group(1))
    while len(body) < length:
        body += s.recv(4096)
    return head + b"\r\n\r\n" + body


def s_client(d, authority, *args, say="", timeout=PATIENCE):
    r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{d.tls_port}", "-CAfile", str(authority.root), *args],
                       input=say.encode(), capture_output=True, timeout=timeout)
    return r.returncode, (r.stdout + r.stderr).decode(errors="replace")


async def counter(d, name):
    return await d.metric(name)


async def test_greeting_command_and_rest(shared, authority):
    status, body = await rest(shared, authority, "POST", "/api/device/register", {"deviceId": "lock-1", "name": "lock"})
    assert status == 201
    device = await wss(shared, authority, "/ws?device=lock-1", {"Authorization": f"Bearer {body['deviceToken']}"})
    assert (await device.recv())["type"] == "connected"
    done = await run_device(device)
    u = await user(shared, authority)
    await u.send("command", {"deviceId": "lock-1", "command": "unlock_door"}, "c1")
    m = await u.expect("command_status", where=lambda m: m["payload"]["status"] == "executed")
    assert done == [m["payload"]["commandId"]]
    status, body = await rest(shared, authority, "GET", f"/api/command/{done[0]}")
    assert status == 200 and body["command"]["outcome"] == "confirmed"
    await u.close()
    device.task.cancel()
    await device.close()


async def test_curl(shared, authority):
    out = subprocess.run(["curl", "-sS", "--http1.1", "--cacert", str(authority.root), "-w", "\n%{http_code} %{ssl_verify_result}",
                          f"https://localhost:{shared.tls_port}/health", f"https://localhost:{shared.tls_port}/api/health"],
                         capture_output=True, timeout=PATIENCE, check=True).stdout.decode()
    assert out.count('"status":"ok"') == 2 and out.count("200 0") == 2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_large_messages(shared, authority, version):
    """Each size crosses the borders of records and of buffers; slow reading makes the server's writes partial."""
    ctx = context(authority, minimum_version=version, maximum_version=version)
    c = await wss(shared, authority, "/echo", ctx=ctx)
    for size in (0, 1, 125, 126, 16383, 16384, 16385, 65535, 65536, 65537, 200_000, 3_000_000):
        data = os.urandom(size)
        await c.ws.send(data)
        assert await asyncio.wait_for(c.ws.recv(), PATIENCE) == data, size
    pieces = [os.urandom(n % 7919 * 3) for n in range(1, 400, 2)]

    async def send():
        for p in pieces:
            await c.ws.send(p)

    sending = asyncio.ensure_future(send())
    for i, p in enumerate(pieces):
        if i % 50 == 0:
            await asyncio.sleep(0.05)
        assert await asyncio.wait_for(c.ws.recv(), PATIENCE) == p
    await sending
    await c.close()
    assert c.ws.close_code == 1000


async def test_slow_reader(shared, authority):
    """More is owed than the socket takes: the rest follows, byte for byte, when the client reads again."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(PATIENCE)
    s.connect(("127.0.0.1", shared.tls_port))
    t = context(authority).wrap_socket(s, server_hostname="localhost")
    t.sendall(b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
              b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += t.recv(1)
    data = os.urandom(4_000_000)
    t.settimeout(None)
    send = asyncio.get_running_loop().run_in_executor(
        None, t.sendall, b"\x82\xff" + len(data).to_bytes(8, "big") + b"\0\0\0\0" + data)
    await send
    await asyncio.sleep(0.3)
    t.settimeout(PATIENCE)

    def read():
        got = bytearray()
        while len(got) < 10 + len(data):
            got += t.recv(3000)
        return got

    got = await asyncio.get_running_loop().run_in_executor(None, read)
    assert bytes(got[10:]) == data
    t.close()


async def test_many_connections(shared, authority):
    before = await counter(shared, "belay_tls_open")
    ctx = context(authority)
    clients = []
    for _ in range(6):
        clients += await asyncio.gather(*(user(shared, authority, f"m{len(clients) + i}", ctx=ctx) for i in range(50)))
    assert await counter(shared, "belay_tls_open") >= before + 300
    answers = await asyncio.gather(*(c.ask("ping") for c in clients))
    assert {a["type"] for a in answers} == {"pong"}
    await asyncio.gather(*(c.close() for c in clients))

    async def gone():
        return await counter(shared, "belay_tls_open") <= before

    await eventually(gone)


async def test_certificate_renewed(serve, authority, certificate, tmp_path):
    """HUP: old connections go on, new ones see the new certificate, and a bad pair changes nothing."""
    live = tmp_path / "live.pem", tmp_path / "live.key"

    def put(pair):
        for new, at in zip(pair, live):
            shutil.copy(new, at)

    def serial():
        with connect(d, authority) as s:
            return s.getpeercert()["serialNumber"]

    put(certificate)
    d = serve(pair=live)
    kept = await user(d, authority)
    old = serial()
    put(authority.issue("second", kind="rsa"))
    d.process.send_signal(1)
    await eventually(lambda: serial() != old)
    new = {serial() for _ in range(8)}
    assert len(new) == 1
    assert (await kept.ask("ping"))["type"] == "pong"
    second = await user(d, authority, "u2")

    shutil.copy(certificate[1], live[1])            # not this certificate's key
    d.process.send_signal(1)
    await d.counted("belay_reloads_refused_total", 1)
    assert {serial() for _ in range(8)} == new
    live[0].write_text("nonsense\n")
    d.process.send_signal(1)
    await d.counted("belay_reloads_refused_total", 2)
    live[0].unlink()
    d.process.send_signal(1)
    await d.counted("belay_reloads_refused_total", 3)
    assert {serial() for _ in range(8)} == new
    for c in (kept, second):
        assert (await c.ask("ping"))["type"] == "pong"
        await c.close()
    # A gateway that is started anew has the pair in force, not the one in the files.
    os.kill(d.workers("gateway")["gateway 1"], 9)
    await eventually(lambda: len(d.workers("gateway")) == 2)
    d.wait_ready()
    assert {serial() for _ in range(8)} == new


def check(d, *pair):
    settings = {"server.tls_listen": "127.0.0.1:1"}
    for name, path in zip(("certificate", "key"), pair):
        if path:
            settings[f"server.tls_{name}"] = path
    extra = [x for k, v in settings.items() for x in ("-o", f"{k}={v}")]
    r = subprocess.run(d.command("-t", *extra), capture_output=True, timeout=PATIENCE)
    return r.returncode, r.stderr.decode()


def test_checked_by_t(authority, certificate, tmp_path):
    import belay
    d = belay.Belayd(tmp_path / "b")
    other = authority.issue("other")
    assert check(d, *certificate)[0] == 0
    for pair, words in (
        ((certificate[0], other[1]), "not a pair"),
        ((certificate[1], certificate[0]), "no certificate can be read"),
        ((certificate[0], certificate[0]), "no private key can be read"),
        ((certificate[0], None), "server.tls_key is wanted"),
        ((None, certificate[1]), "server.tls_certificate is wanted"),
        ((tmp_path / "none", certificate[1]), "No such file"),
    ):
        status, text = check(d, *pair)
        assert status == 1 and words in text, (pair, status, text)
    locked = tmp_path / "locked.key"
    subprocess.run(["openssl", "pkey", "-in", str(certificate[1]), "-aes128", "-passout", "pass:x", "-out", str(locked)], check=True)
    status, text = check(d, certificate[0], locked)
    assert status == 1 and "must not be encrypted" in text
    weak = tmp_path / "weak.pem", tmp_path / "weak.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", str(weak[1]), "-out", str(weak[0]),
                    "-subj", "/CN=weak"], check=True, capture_output=True)
    status, text = check(d, *weak)
    assert status == 1 and "too small" in text


async def test_plain_http_on_the_tls_port(shared):
    with socket.create_connection(("127.0.0.1", shared.tls_port), PATIENCE) as s:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        out = b""
        while piece := s.recv(4096):
            out += piece
    assert out.startswith(b"HTTP/1.1 400 ") and b"https://" in out and b"Connection: close" in out


@pytest.mark.parametrize("bytes_", [b"\0" * 40, b"SSH-2.0-x\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 300, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
async def test_nonsense_on_the_tls_port(shared, bytes_):
    failed = await counter(shared, 'belay_tls_handshakes_total{result="failed"}')
    with socket.create_connection(("127.0.0.1", shared.tls_port), PATIENCE) as s:
        s.sendall(bytes_)
        s.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while s.recv(4096):
                pass

    async def counted():
        return await counter(shared, 'belay_tls_handshakes_total{result="failed"}') > failed

    await eventually(counted)


async def test_tls_on_the_plain_port(shared, authority):
    with pytest.raises(ssl.SSLError):
        context(authority).wrap_socket(socket.create_connection(("127.0.0.1", shared.port), PATIENCE), server_hostname="localhost")
    assert (await shared.rest("GET", "/health"))[0] == 200


async def test_old_versions_refused(shared, authority):
    for version in ("-tls1", "-tls1_1"):
        status, text = s_client(shared, authority, version, "-cipher", "ALL:@SECLEVEL=0")
        assert status != 0 and re.search(r"alert protocol version|unsupported protocol|no protocols available", text), text
        assert "BEGIN CERTIFICATE" not in text
    for version, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        status, text = s_client(shared, authority, version, "-verify_return_error")
        assert status == 0 and f"New, {name}" in text, text


async def test_weak_ciphers_refused(shared, authority):
    for cipher in ("AES128-SHA:@SECLEVEL=0", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0", "AES128-GCM-SHA256"):
        status, text = s_client(shared, authority, "-tls1_2", "-cipher", cipher)
        assert status != 0 and "handshake failure" in text, text


class Openssl:
    """s_client, which is told something when it has said something: of what it finds on one reading it obeys the first line alone."""

    def __init__(self, d, *args):
        self.process = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{d.tls_port}", *args],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.out = b""
        self.hear(b"Verify return code:")

    def hear(self, what, times=1):
        while self.out.count(what) < times:
            assert select.select([self.process.stdout], [], [], PATIENCE)[0], self.out
            piece = os.read(self.process.stdout.fileno(), 65536)
            assert piece, self.out
            self.out += piece

    def say(self, what):
        os.write(self.process.stdin.fileno(), what)

    def end(self):
        return (self.out + self.process.communicate(timeout=PATIENCE)[0]).decode(errors="replace")


async def test_no_renegotiation(shared, authority):
    """The client asks for it, is refused, and is not served a new handshake."""
    client = Openssl(shared, "-tls1_2")
    client.say(b"R\n")
    out = client.end()
    assert "RENEGOTIATING" in out and "no renegotiation" in out, out


async def test_key_update(shared, authority):
    """The client changes its keys and wants the server's changed, in the middle of a connection."""
    client = Openssl(shared, "-tls1_3")
    for n in range(3):
        client.say(b"K\n")
        client.hear(b"KEYUPDATE", n + 1)
    client.say(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    client.hear(b'"status":"ok"')
    assert client.end().count("KEYUPDATE") == 3


async def test_alpn(shared, authority):
    ctx = context(authority)
    ctx.set_alpn_protocols(["h2", "http/1.1"])
    with connect(shared, authority, ctx) as s:
        assert s.selected_alpn_protocol() == "http/1.1"
    ctx.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError):
        connect(shared, authority, ctx)


async def test_ends_with_close_notify(shared, authority):
    """Neither a browser nor curl may take the end for a truncation."""
    ctx = context(authority)
    with connect(shared, authority, ctx) as s:
        assert b'"status":"ok"' in get(s, close=True)
        assert s.recv(10) == b""        # and not SSLEOFError
    c = await user(shared, authority)
    await c.close()
    assert c.ws.close_code == 1000
    with connect(shared, authority, ctx) as s:
        s.sendall(b"nonsense\r\n\r\n")
        out = b""
        while piece := s.recv(4096):
            out += piece
        assert out.startswith(b"HTTP/1.1 400")


def resumed(d, authority, version, times=12):
    ctx = context(authority, minimum_version=version, maximum_version=version)
    with connect(d, authority, ctx) as s:
        get(s)                          # with TLS 1.3 the ticket comes with the first bytes
        session = s.session
    held = []
    for _ in range(times):
        s = connect(d, authority, ctx, session)
        get(s)
        held.append(s)
    reused = sum(s.session_reused for s in held)
    for s in held:
        s.close()
    return reused


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_resumption_across_gateways(serve, authority, accept, version):
    d = serve({"server.accept": accept}, workers=3)
    # Which of them accepts: all three, when many connections are held.
    held = [connect(d, authority) for _ in range(120)]
    sockets = [sum(os.readlink(f).startswith("socket:") for f in Path(f"/proc/{pid}/fd").iterdir() if f.is_symlink())
               for pid in d.workers("gateway").values()]
    assert min(sockets) > 2, sockets        # the listeners
    for s in held:
        s.close()
    before = await counter(d, "belay_tls_resumed_total")
    assert resumed(d, authority, version, 30) == 30
    assert await counter(d, "belay_tls_resumed_total") == before + 30
    # A successor has the same secret, and so has everyone after a reload.
    for pid in d.workers("gateway").values():
        os.kill(pid, 9)
    await eventually(lambda: len(d.workers("gateway")) == 3)
    d.wait_ready()
    assert resumed(d, authority, version) == 12
    reloads = await counter(d, "belay_reloads_total")
    d.process.send_signal(1)
    await d.counted("belay_reloads_total", reloads + len(d.workers()))
    assert resumed(d, authority, version) == 12


async def test_foreign_ticket(serve, authority, shared):
    """Another instance's ticket is no reason to refuse: there is a full handshake."""
    ctx = context(authority)
    with connect(shared, authority, ctx) as s:
        get(s)
        session = s.session
    d = serve()
    with connect(d, authority, ctx, session) as s:
        assert b"200 OK" in get(s) and not s.session_reused


async def test_slow_handshake(serve, authority):
    """Silence, half a hello and one byte at a time all end with limits.handshake_time; others do not notice."""
    d = serve({"limits.handshake_time": "2s"})
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(authority).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()

    async def slow(first, each):
        reader, writer = await asyncio.open_connection("127.0.0.1", d.tls_port)
        begun = time.monotonic()
        writer.write(hello[:first])
        at = first
        with contextlib.suppress(ConnectionError):
            while True:
                with contextlib.suppress(asyncio.TimeoutError):
                    if not await asyncio.wait_for(reader.read(100), 0.1):
                        break
                if each:
                    writer.write(hello[at:at + each])
                    at += each
        writer.close()
        return time.monotonic() - begun

    waiting = [asyncio.ensure_future(slow(*how)) for how in ((0, 0), (100, 0), (1, 1), (len(hello), 0))]
    c = await user(d, authority)
    assert (await c.ask("ping"))["type"] == "pong"
    for took in await asyncio.gather(*waiting):
        assert 1.0 <= took <= 4.5
    # The time is for handshake and request together.
    watch = Stopwatch(d)
    s = connect(d, authority, timeout=PATIENCE)
    assert s.recv(10) == b""
    assert watch.stop()[1] <= 4.5
    s.close()
    assert (await c.ask("ping"))["type"] == "pong"
    await c.close()


async def test_handshakes_bounded(serve, authority):
    """Silent clients fill what there is; a real one is served all the same, within about a second."""
    d = serve({"limits.tls_handshakes": 8, "limits.handshake_time": "60s"}, workers=1)
    silent = [socket.create_connection(("127.0.0.1", d.tls_port), PATIENCE) for _ in range(30)]
    watch = Stopwatch(d)
    for _ in range(3):
        c = await user(d, authority)
        assert (await c.ask("ping"))["type"] == "pong"
        await c.close()
    assert watch.stop()[1] < 8
    assert await counter(d, 'belay_tls_handshakes_total{result="given_up"}') > 0
    for s in silent:
        s.close()


async def test_handshake_storm(serve, authority):
    """Three hundred handshakes at once, more than are taken in hand at a time: all come through, plain clients as well.

    One that takes longer than a second gives way while others wait, as it may where this process is slow; it comes again.
    """
    d = serve({"limits.tls_handshakes": 50, "limits.handshake_time": "60s"})
    ctx = context(authority)
    plain = await d.user("plain")

    again = 0

    async def one(i):
        nonlocal again
        while True:
            try:
                c = await user(d, authority, f"s{i}", ctx=ctx)
                break
            except (OSError, websockets.InvalidMessage):
                again += 1
        await c.close()

    storm = asyncio.gather(*(one(i) for i in range(300)))
    while not storm.done():
        assert (await plain.ask("ping"))["type"] == "pong"
        await asyncio.sleep(0.05)
    await storm
    await eventually(lambda: given_up(d, again))
    await plain.close()


async def given_up(d, count):
    return await counter(d, 'belay_tls_handshakes_total{result="given_up"}') == count


async def test_drain(serve, authority):
    d = serve()
    clients = [await user(d, authority, f"d{i}") for i in range(10)]
    d.process.send_signal(15)
    for c in clients:
        assert (await c.closed())[0] == 1012
    assert d.stop() == 0


async def test_tls_alone(serve, authority):
    """server.listen may be empty where there is TLS; the check of readiness then goes by TLS, too."""
    d = serve({"server.listen": ""}, wait=False)

    def ready():
        with contextlib.suppress(OSError):
            with connect(d, authority) as s:
                return b" 200 " in get(s, "/health/ready").split(b"\r\n")[0]

    await eventually(ready, timeout=PATIENCE, every=0.1)
    c = await user(d, authority)
    await c.close()


async def test_refused_over_tls(shared, authority):
    """A refusal is a close code after the handshake, as without TLS."""
    c = await wss(shared, authority)
    assert await c.closed() == (1008, "Missing token")
