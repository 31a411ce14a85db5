"""Who the client is behind load balancers: the PROXY protocol, X-Forwarded-For, Forwarded; and limits by that address."""

import asyncio
import contextlib
import re
import shutil
import socket
import ssl
import struct
import subprocess
import time
from pathlib import Path

import pytest
import websockets

import moved
from belay import PATIENCE, Client, Refused, Stopwatch, eventually, free_port, token
from certs import Authority

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CONTRIB = Path(__file__).resolve().parents[2] / "contrib"


def v2(source=None, command=1, family=0x11, extensions=b"", addresses=None, length=None):
    if addresses is None:
        if family == 0x11:
            addresses = socket.inet_aton(source) + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 40000, 443)
        elif family == 0x21:
            addresses = (socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "2001:db8::ff") +
                         struct.pack("!HH", 40000, 443))
        else:
            addresses = b""
    body = addresses + extensions
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack("!H", len(body) if length is None else length) + body


def v1(source, family="TCP4", other="198.51.100.1"):
    return f"PROXY {family} {source} {other} 40000 443\r\n".encode()


def request(port, before=b"", headers="", path="/api/device", pieces=1, source=None, wrap=None):
    """Sends a request without a token; the answer, or b"" when the connection is dropped."""
    with socket.socket() as s:
        s.settimeout(PATIENCE)
        if source:
            s.bind((source, 0))
        s.connect(("127.0.0.1", port))
        for i in range(0, len(before), max(1, len(before) // pieces)):
            s.sendall(before[i:i + max(1, len(before) // pieces)])
            if pieces > 1:
                time.sleep(0.01)
        if wrap:
            s = wrap(s)
        out = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n".encode())
            while piece := s.recv(4096):
                out += piece
        s.close()
        return out


def refused_from(d, address):
    """How often the log names that address as refused: the only place where it is shown to the letter."""
    return len(re.findall(rf"\s{re.escape(address)} refused: no token", d.log_text()))


async def seen(d, address, *args, **kwargs):
    before = refused_from(d, address)
    out = request(*args, **kwargs)
    assert out.startswith(b"HTTP/1.1 401"), out
    await eventually(lambda: refused_from(d, address) == before + 1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def behind(start, authority):
    """behind(settings…): a belayd that trusts 127.0.0.1; it listens with TLS on .tls_port, too."""

    def go(settings=None, **kwargs):
        port = free_port()
        certificate, key = authority.issue("belay")
        d = start({
            "server.trusted_proxies": "127.0.0.1,10.0.0.0/8,2001:db8:aaaa::/48",
            "server.tls_listen": f"127.0.0.1:{port}", "server.tls_certificate": str(certificate), "server.tls_key": str(key),
            "server.admin_listen": f"127.0.0.1:{free_port()}",
            **(settings or {}),
        }, wait=False, **kwargs)
        d.tls_port = port
        admin = int(d.settings["server.admin_listen"].split(":")[1])
        d.admin_port = admin

        d.wait_ready()
        return d

    return go


def counters(d):
    out = request(d.admin_port, path="/metrics").decode()
    moved.note(out)
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in out.splitlines() if line.startswith("belay_")}


# --- the PROXY protocol


@pytest.fixture
def proxied(behind):
    return behind({"server.proxy_protocol": "true"})


async def test_v1(proxied):
    d = proxied
    await seen(d, "203.0.113.7", d.port, v1("203.0.113.7"))
    await seen(d, "2001:db8::7", d.port, v1("2001:db8::7", "TCP6", "2001:db8::1"))
    await seen(d, "203.0.113.8", d.port, v1("203.0.113.8"), pieces=20)
    await seen(d, "127.0.0.1", d.port, b"PROXY UNKNOWN\r\n")
    await seen(d, "127.0.0.1", d.port, b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n")


async def test_v2(proxied):
    d = proxied
    await seen(d, "203.0.113.7", d.port, v2("203.0.113.7"))
    await seen(d, "2001:db8::7", d.port, v2("2001:db8::7", family=0x21))
    await seen(d, "203.0.113.9", d.port, v2("203.0.113.9", extensions=b"\x01\0\x02h2" + b"\x04\0\x00" + b"\xe0\x01\x00" + b"x" * 256))
    await seen(d, "203.0.113.8", d.port, v2("203.0.113.8"), pieces=14)
    await seen(d, "127.0.0.1", d.port, v2(command=0, family=0))
    await seen(d, "127.0.0.1", d.port, v2("203.0.113.7", command=0))
    await seen(d, "127.0.0.1", d.port, v2(family=0x31, addresses=b"\0" * 216))


async def test_before_tls(proxied, authority):
    """The header comes in the clear, TLS follows in the same breath."""
    d = proxied
    ctx = ssl.create_default_context(cafile=str(authority.root))
    wrap = lambda s: ctx.wrap_socket(s, server_hostname="localhost")
    await seen(d, "203.0.113.20", d.tls_port, v1("203.0.113.20"), wrap=wrap)
    await seen(d, "203.0.113.21", d.tls_port, v2("203.0.113.21"), wrap=wrap)
    await seen(d, "203.0.113.22", d.tls_port, v2("203.0.113.22"), wrap=wrap, pieces=7)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ctx.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with socket.create_connection(("127.0.0.1", d.tls_port), PATIENCE) as s:
        s.sendall(v2("203.0.113.23") + outgoing.read())
        assert s.recv(5)[:3] == b"\x16\x03\x03"


BAD = [
    b"PROXY TCP4 203.0.113.7 198.51.100.1 40000\r\n",
    b"PROXY TCP4 203.0.113.07 198.51.100.1 40000 443\r\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.1 040000 443\r\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.1 70000 443\r\n",
    b"PROXY TCP4  203.0.113.7 198.51.100.1 40000 443\r\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443 \r\n",
    b"PROXY TCP6 203.0.113.7 198.51.100.1 40000 443\r\n",
    b"PROXY TCP4 ::1 ::1 40000 443\r\n",
    b"PROXY UDP4 203.0.113.7 198.51.100.1 40000 443\r\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY " + b"x" * 200 + b"\r\n",
    b"proxy TCP4 203.0.113.7 198.51.100.1 40000 443\r\n",
    b"",
    v2("203.0.113.7", command=2),
    v2("203.0.113.7", family=0x12, addresses=b"\0" * 12),
    v2(family=0x41, addresses=b"\0" * 12),
    v2(family=0x11, addresses=b"\0" * 11),
    v2("203.0.113.7", extensions=b"\x01\0\x05x"),
    v2("203.0.113.7", extensions=b"\x03\0\x04\0\0\0\0"),
    v2("203.0.113.7", length=60000),
    SIGNATURE + bytes([0x11, 0x11, 0, 12]) + b"\0" * 12,
]


async def test_malformed_is_dropped_and_counted(proxied):
    d = proxied
    name = "belay_proxy_headers_malformed_total"
    before = counters(d)[name]
    for i, header in enumerate(BAD):
        assert request(d.port, header) == b"", header
        assert counters(d)[name] == before + i + 1, header
    assert not refused_from(d, "203.0.113.7")
    assert request(d.port, v2("203.0.113.7") * 2).startswith(b"HTTP/1.1 400")


async def test_unfinished_header_ends(behind):
    d = behind({"server.proxy_protocol": "true", "limits.handshake_time": "1s"})
    for start in (b"", b"PROXY TCP4 203.0", v2("203.0.113.7")[:20]):
        watch = Stopwatch(d)
        with socket.create_connection(("127.0.0.1", d.port), PATIENCE) as s:
            s.sendall(start)
            assert s.recv(100) == b""
        elapsed, needed = watch.stop()
        assert 0.5 <= elapsed and needed < 4


async def test_only_from_the_trusted(proxied):
    """From elsewhere the header is no header, and who comes without it is welcome."""
    d = proxied
    await seen(d, "127.0.0.5", d.port, source="127.0.0.5")
    for header in (v1("203.0.113.66"), v2("203.0.113.66")):
        out = request(d.port, header, source="127.0.0.5")
        assert out.startswith(b"HTTP/1.1 400"), out
    assert not refused_from(d, "203.0.113.66")
    # Nor on the listener for administration, whoever comes.
    assert request(d.admin_port, path="/health").startswith(b"HTTP/1.1 200")


async def test_forwarded_behind_proxy_header(proxied):
    """A client that the header names is believed no word about itself; another trusted proxy is."""
    d = proxied
    await seen(d, "203.0.113.7", d.port, v2("203.0.113.7"), headers="X-Forwarded-For: 192.0.2.1\r\n")
    await seen(d, "192.0.2.1", d.port, v2("10.1.2.3"), headers="X-Forwarded-For: 192.0.2.1\r\n")
    await seen(d, "192.0.2.2", d.port, v2(command=0, family=0), headers="X-Forwarded-For: 192.0.2.2\r\n")


# --- X-Forwarded-For and Forwarded


@pytest.mark.parametrize("lines, client", [
    (["192.0.2.1"], "192.0.2.1"),
    (["198.51.100.9, 192.0.2.1"], "192.0.2.1"),
    (["192.0.2.1, 10.0.0.1"], "192.0.2.1"),
    (["198.51.100.9", "192.0.2.1", "10.0.0.1, 10.0.0.2"], "192.0.2.1"),
    (["10.0.0.1"], "10.0.0.1"),
    (["2001:db8::1"], "2001:db8::1"),
    (["[2001:db8::1]:4711"], "2001:db8::1"),
    (["192.0.2.1:4711"], "192.0.2.1"),
    (["192.0.2.1, 2001:db8:aaaa::9"], "192.0.2.1"),
    (["192.0.2.1, nonsense"], "127.0.0.1"),
    (["192.0.2.1, unknown, 10.0.0.3"], "10.0.0.3"),
    ([""], "127.0.0.1"),
])
async def test_x_forwarded_for(behind_forwarded, lines, client):
    d = behind_forwarded
    await seen(d, client, d.port, headers="".join(f"X-Forwarded-For: {line}\r\n" for line in lines))


@pytest.fixture(scope="module")
def behind_forwarded(tmp_path_factory):
    import belay
    from conftest import check_log
    d = belay.Belayd(tmp_path_factory.mktemp("forwarded"),
                     {"server.trusted_proxies": "127.0.0.1,10.0.0.0/8,2001:db8:aaaa::/48"}).start()
    yield d
    assert d.stop() == 0
    check_log(d)


async def test_not_believed(behind_forwarded):
    d = behind_forwarded
    await seen(d, "127.0.0.5", d.port, source="127.0.0.5", headers="X-Forwarded-For: 192.0.2.1\r\n")
    # The other header is not the one that the proxies write, so the client may have.
    await seen(d, "127.0.0.1", d.port, headers="Forwarded: for=192.0.2.1\r\n")
    await seen(d, "192.0.2.3", d.port, headers="Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.3\r\n")


async def test_each_request_of_a_connection(behind_forwarded):
    """A proxy sends the requests of many clients over one connection."""
    d = behind_forwarded
    with socket.create_connection(("127.0.0.1", d.port), PATIENCE) as s:
        for address in ("192.0.2.31", "192.0.2.32", None, "192.0.2.33"):
            line = f"X-Forwarded-For: {address}\r\n" if address else ""
            before = refused_from(d, address or "127.0.0.1")
            s.sendall(f"GET /api/device HTTP/1.1\r\nHost: x\r\n{line}\r\n".encode())
            assert b" 401 " in s.recv(4096)
            await eventually(lambda: refused_from(d, address or "127.0.0.1") == before + 1)


async def test_refused_body_is_no_request(behind_forwarded):
    """What is refused before its body is read ends the connection: a body can't pose as the next client's request."""
    d = behind_forwarded
    with socket.create_connection(("127.0.0.1", d.port), PATIENCE) as s:
        inner = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        s.sendall(b"POST /api/command HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" %
                  len(inner) + inner)
        out = b""
        while piece := s.recv(4096):
            out += piece
    assert out.count(b"HTTP/1.1") == 1 and b" 401 " in out and b"Connection: close" in out


async def test_forwarded(behind):
    d = behind({"server.forwarded": "forwarded"})
    for line, client in (
        ("for=192.0.2.1", "192.0.2.1"),
        ('for="192.0.2.1:80";proto=https;by=203.0.113.43', "192.0.2.1"),
        ('FOR="[2001:db8::1]:4711"', "2001:db8::1"),
        ("for=198.51.100.1, for=192.0.2.2;host=x, for=10.0.0.1", "192.0.2.2"),
        ('for=192.0.2.1;x="a,b;for=192.0.2.66"', "192.0.2.1"),
        ("for=192.0.2.1, for=_hidden", "127.0.0.1"),
        ("for=192.0.2.1, for=unknown, for=10.0.0.7", "10.0.0.7"),
        ("for=192.0.2.1, by=10.0.0.1", "127.0.0.1"),
        ('for="192.0.2.1', "127.0.0.1"),
        ("for=192.0.2.1;for=192.0.2.2", "127.0.0.1"),
    ):
        await seen(d, client, d.port, headers=f"Forwarded: {line}\r\n")
    await seen(d, "127.0.0.1", d.port, headers="X-Forwarded-For: 192.0.2.1\r\n")


async def test_reload_of_trust(behind):
    """server.trusted_proxies is taken up by a reload."""
    d = behind()
    await seen(d, "192.0.2.1", d.port, headers="X-Forwarded-For: 192.0.2.1\r\n")
    conf = d.folder / "belayd.conf"
    assert not conf.read_text()
    # Options of the command line outrank the file, so the environment of this test is the file alone.
    d.stop()
    d.settings.pop("server.trusted_proxies")
    conf.write_text('server: { trusted_proxies = ["127.0.0.1"]; };\n')
    d.start(wait=False)
    await eventually(lambda: b" 200 " in request(d.admin_port, path="/health/ready")[:20] if port_open(d.admin_port) else False,
                     timeout=PATIENCE)
    await seen(d, "192.0.2.1", d.port, headers="X-Forwarded-For: 192.0.2.1\r\n")
    conf.write_text('server: { trusted_proxies = ["127.0.0.77"]; };\n')
    reloads = counters(d)["belay_reloads_total"]
    d.process.send_signal(1)
    await eventually(lambda: counters(d)["belay_reloads_total"] == reloads + len(d.workers()))
    await seen(d, "127.0.0.1", d.port, headers="X-Forwarded-For: 192.0.2.1\r\n")


def port_open(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# --- limits by address and by user


def forwarded_for(address, name="u1"):
    return {"X-Forwarded-For": address, "Authorization": f"Bearer {token(name)}"}


async def test_connections_per_ip(start):
    """Directly: 503 with Retry-After before anything is said; it counts connections, not requests."""
    d = start({"limits.connections_per_ip": 3}, workers=1)
    held = [socket.create_connection(("127.0.0.1", d.port), PATIENCE) for _ in range(3)]
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", d.port), PATIENCE) as s:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            out = s.recv(4096)
            assert out.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in out
    assert request(d.port, source="127.0.0.2").startswith(b"HTTP/1.1 401")
    held.pop().close()
    await eventually(lambda: request(d.port).startswith(b"HTTP/1.1 401"))
    for s in held:
        s.close()
    await eventually(lambda: d_metric(d, "belay_connections_refused_total") >= 3)
    # What was counted was given back: again three, and no more.
    await eventually(lambda: d_metric(d, "belay_connections_open") <= 1)
    held = [socket.create_connection(("127.0.0.1", d.port), PATIENCE) for _ in range(3)]
    for s in held:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
    assert b" 503 " in request(d.port)
    for s in held:
        s.close()


def d_metric(d, name):
    out = request(d.port, path="/metrics", headers=f"Authorization: Bearer {d.service_key}\r\n", source="127.0.0.99").decode()
    return next(float(line.split()[-1]) for line in out.splitlines() if line.startswith(name + " "))


async def test_connections_per_forwarded_ip(start):
    """Behind a proxy, that has any number itself: 1013 after the upgrade."""
    d = start({"limits.connections_per_ip": 2, "server.trusted_proxies": "127.0.0.1"}, workers=1)
    held = [await d.open("/ws", forwarded_for("192.0.2.1", f"u{i}")) for i in range(2)]
    with pytest.raises(Refused) as e:
        await d.open("/ws", forwarded_for("192.0.2.1", "u9"))
    assert (e.value.code, e.value.reason) == (1013, "Too many connections")
    others = [await d.open("/ws", forwarded_for(f"192.0.2.{i}", f"u{i}")) for i in range(10, 20)]
    await held.pop().close()

    async def again():
        with contextlib.suppress(Refused):
            return await d.open("/ws", forwarded_for("192.0.2.1", "u3"))

    held.append(await eventually(again))
    # One network of 64 bits is one address.
    net = [await d.open("/ws", forwarded_for(f"2001:db8:1:2:{i:x}::1", f"v{i}")) for i in range(2)]
    with pytest.raises(Refused):
        await d.open("/ws", forwarded_for("2001:db8:1:2:ffff::1"))
    net.append(await d.open("/ws", forwarded_for("2001:db8:1:3::1")))
    for c in held + others + net:
        await c.close()


async def test_connections_per_proxied_ip(behind, authority):
    d = behind({"limits.connections_per_ip": 1, "server.proxy_protocol": "true"}, workers=1)
    with socket.create_connection(("127.0.0.1", d.port), PATIENCE) as s:
        s.sendall(v2("192.0.2.1") + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in s.recv(4096)
        out = request(d.port, v2("192.0.2.1"))
        assert out.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in out
        assert request(d.port, v2("192.0.2.2")).startswith(b"HTTP/1.1 401")
        # With TLS there is no word for it.
        with socket.create_connection(("127.0.0.1", d.tls_port), PATIENCE) as t:
            t.sendall(v2("192.0.2.1"))
            assert t.recv(100) == b""
    await eventually(lambda: request(d.port, v2("192.0.2.1")).startswith(b"HTTP/1.1 401"))


async def test_connects_per_ip(start):
    """The rate of new connections: 429 directly, 1013 behind a proxy."""
    d = start({"limits.connects_per_ip": 5, "server.trusted_proxies": "127.0.0.1"}, workers=1)
    answers = [request(d.port, source="127.0.0.3") for _ in range(8)]
    assert [a[9:12] for a in answers] == [b"401"] * 5 + [b"429"] * 3
    assert re.search(rb"Retry-After: (1[0-3]|[1-9])\r\n", answers[-1])
    assert request(d.port, source="127.0.0.4")[9:12] == b"401"
    for i in range(5):
        await (await d.open("/ws", forwarded_for("192.0.2.5", f"u{i}"))).close()
    with pytest.raises(Refused) as e:
        await d.open("/ws", forwarded_for("192.0.2.5"))
    assert e.value.code == 1013


async def test_requests_per_user(start):
    d = start({"limits.requests_per_user": 5}, workers=1)
    answers = [await d.rest("GET", "/api/device", bearer=token("busy"), raw=True) for _ in range(16)]
    statuses = [a[0] for a in answers]
    assert statuses[:10] == [200] * 10 and 429 in statuses, statuses
    refused = next(a for a in answers if a[0] == 429)
    assert refused[1]["Retry-After"] == "1" and b"rate_limited" in refused[2]
    assert (await d.rest("GET", "/api/device", bearer=token("calm")))[0] == 200
    assert (await d.rest("GET", "/api/device", bearer=token("busy", "t2")))[0] == 200
    for _ in range(30):
        assert (await d.rest("GET", "/v1/websocket/stats?tenantId=t1", bearer=d.service_key))[0] == 200

    async def again():
        return (await d.rest("GET", "/api/device", bearer=token("busy")))[0] == 200

    await eventually(again, every=0.2)


# --- haproxy, with the sample that is installed

HAPROXY = pytest.mark.skipif(not shutil.which("haproxy"), reason="SKIP: haproxy is wanted")


class Haproxy:
    """contrib/haproxy.cfg with ports of the test's own."""

    def __init__(self, folder, ports, edit=lambda text: text, before=()):
        text = (CONTRIB / "haproxy.cfg").read_text().replace("# server belay-2", "server belay-2")
        self.port, self.tls_port = free_port(), free_port()
        for name, port in {8080: self.port, 8443: self.tls_port, **ports}.items():
            text, n = re.subn(rf"(\s127\.0\.0\.1):{name}\b", rf"\1:{port}", text)
            assert n == 1, (name, n)
        self.path = Path(folder) / "haproxy.cfg"
        self.path.write_text(edit(text))
        self.log = open(Path(folder) / "haproxy.log", "wb")
        self.process = subprocess.Popen([*before, "haproxy", "-db", "-f", str(self.path)], stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log)

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.log.close()


@pytest.fixture
def balanced(behind, tmp_path):
    """Two instances of two gateways each, and haproxy in front of them."""
    started = []

    def go(settings=None, edit=lambda text: text):
        first, second = behind(settings), behind(settings)
        h = Haproxy(tmp_path, {3000: first.port, 3001: second.port, 3443: first.tls_port, 3444: second.tls_port}, edit)
        started.append(h)
        return h, first, second

    yield go
    for h in started:
        h.stop()


async def through(port, source, path="/ws", ctx=None, name="u1"):
    ws = await websockets.connect(f"{'wss' if ctx else 'ws'}://localhost:{port}{path}", ssl=ctx, host="127.0.0.1",
                                  local_addr=(source, 0), compression=None, ping_interval=None, open_timeout=PATIENCE,
                                  extra_headers={"Authorization": f"Bearer {token(name)}", "X-Forwarded-For": "192.0.2.66"})
    c = Client(ws)
    try:
        c.connected = await c.recv()
    except websockets.ConnectionClosed:
        raise Refused(ws.close_code, ws.close_reason) from None
    if c.connected["type"] == "error":
        raise Refused(*await c.closed())
    return c


async def up(check):
    async def ok():
        with contextlib.suppress(OSError, websockets.WebSocketException, asyncio.TimeoutError, EOFError, Refused):
            c = await check()
            await c.close()
            return True

    await eventually(ok, timeout=PATIENCE, every=0.2)


@HAPROXY
async def test_haproxy_http(balanced):
    """TLS would end in haproxy; addresses come in X-Forwarded-For, which no client can forge."""
    h, first, second = balanced({"limits.connections_per_ip": 2})
    await up(lambda: through(h.port, "127.0.0.8"))
    clients = []
    for i in range(2, 14):
        clients.append(await through(h.port, f"127.0.1.{i}", name=f"u{i}"))
    for c in clients:
        assert (await c.ask("ping"))["type"] == "pong"
    both = [counters(d)['belay_websocket_open{party="user"}'] for d in (first, second)]
    assert sum(both) == 12 and min(both) >= 3, both
    for path in ("/api/device", "/api/health/detailed"):
        out = request(h.port, path=path, source="127.0.1.50", headers="X-Forwarded-For: 192.0.2.66\r\n")
        assert out.startswith(b"HTTP/1.1 401")
    await eventually(lambda: refused_from(first, "127.0.1.50") + refused_from(second, "127.0.1.50") == 2)
    assert not refused_from(first, "192.0.2.66") + refused_from(second, "192.0.2.66")
    # Two gateways of two instances: eight of one address find room, wherever they come to, and no more.
    crowd, over = [], 0
    for i in range(24):
        try:
            crowd.append(await through(h.port, "127.0.2.1", name=f"c{i}"))
        except Refused as e:
            assert e.code == 1013
            over += 1
    assert 4 <= len(crowd) <= 8 and over == 24 - len(crowd)
    for c in clients + crowd:
        await c.close()


@HAPROXY
async def test_haproxy_drain(balanced):
    """An instance that stops sends its clients away; they come back, to the other one."""
    h, first, second = balanced()
    await up(lambda: through(h.port, "127.0.0.8"))
    clients = [await through(h.port, f"127.0.1.{i}", name=f"u{i}") for i in range(2, 12)]
    await asyncio.to_thread(first.stop)
    codes = []
    for c in clients:
        with contextlib.suppress(websockets.ConnectionClosed):
            assert (await c.ask("ping"))["type"] == "pong"
        codes.append(c.ws.close_code)
    assert set(codes) == {1012, None} and codes.count(1012) >= 3, codes
    for i, code in enumerate(codes):
        if code == 1012:
            await up(lambda: through(h.port, f"127.0.1.{i + 2}", name=f"u{i + 2}"))
    for c in clients:
        await c.close()


@HAPROXY
@pytest.mark.parametrize("send", ["send-proxy-v2", "send-proxy", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
async def test_haproxy_tcp(balanced, authority, send):
    """TLS ends in belayd; addresses come in the PROXY header, version 1, version 2, and with a checksum."""
    # The first way speaks to the same instances, so it sends the header as well.
    h, first, second = balanced({"server.proxy_protocol": "true"}, lambda text: text.replace("send-proxy-v2\n", f"{send}\n").replace(
        "default-server inter 1s fall 2 rise 2\n", "default-server inter 1s fall 2 rise 2 send-proxy\n"))
    ctx = ssl.create_default_context(cafile=str(authority.root))
    await up(lambda: through(h.tls_port, "127.0.0.8", ctx=ctx))
    await up(lambda: through(h.port, "127.0.0.8"))
    clients = [await through(h.tls_port, f"127.0.1.{i}", ctx=ctx, name=f"u{i}") for i in range(2, 12)]
    clients += [await through(h.port, f"127.0.1.{i}", name=f"u{i}") for i in range(12, 22)]
    for c in clients:
        assert (await c.ask("ping"))["type"] == "pong"
    with socket.socket() as s:
        s.bind(("127.0.1.77", 0))
        s.settimeout(PATIENCE)
        s.connect(("127.0.0.1", h.tls_port))
        with ctx.wrap_socket(s, server_hostname="localhost") as t:
            t.sendall(b"GET /api/device HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.66\r\nConnection: close\r\n\r\n")
            assert b" 401 " in t.recv(4096)
    assert request(h.port, source="127.0.1.77").startswith(b"HTTP/1.1 401")
    await eventually(lambda: refused_from(first, "127.0.1.77") + refused_from(second, "127.0.1.77") == 2)
    assert not refused_from(first, "192.0.2.66") + refused_from(second, "192.0.2.66")
    assert counters(first)["belay_proxy_headers_malformed_total"] == counters(second)["belay_proxy_headers_malformed_total"] == 0
    for c in clients:
        await c.close()


@HAPROXY
def test_samples_are_good():
    subprocess.run(["haproxy", "-c", "-q", "-f", str(CONTRIB / "haproxy.cfg")], check=True)
