"""The handshake of clients that are small or odd, and what is said before a close that not every library shows."""

import base64
import hashlib
import json
import socket
import struct
import subprocess

import pytest

from belay import PATIENCE, clean_environment, free_port, token
from narrow import CLOSE, Narrow


def v2(source):
    """A header of the PROXY protocol, version 2."""
    return (b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", 12) + socket.inet_aton(source) + socket.inet_aton("198.51.100.1") +
            struct.pack("!HH", 40000, 443))


class Early(Narrow):
    """A WebSocket behind a header of the PROXY protocol; its frames, if the upgrade was taken."""

    def __init__(self, daemon, before, bearer):
        super().__init__(daemon, upgrade=False)
        self.send(before + b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer " + bearer.encode() + b"\r\n\r\n")
        while b"\r\n\r\n" not in self.data:
            assert self.more(), self.data
        self.head, _, self.data = self.data.partition(b"\r\n\r\n")


def last_words(client):
    """The messages until the close frame, and its code."""
    said = []
    while (f := client.read()) is not None and f[0] != CLOSE:
        said.append(json.loads(f[1]))
    assert f is not None, said
    return said, struct.unpack(">H", f[1][:2])[0], f[1][2:].decode()


@pytest.mark.parametrize("key", ["AQIDBAUGBwgJCgsMDQ4PEC==", "abcdefghijklmnopqrstuv==", "dGhlIHNhbXBsZSBub25jZQ=="])
async def test_key_with_spare_bits(belayd, key):
    """RFC 6455 section 4.1 shows the first; the second is 22 letters drawn at random."""
    with socket.create_connection(("127.0.0.1", belayd.port), PATIENCE) as s:
        s.sendall(f"GET /ws?token={token()} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        answer = s.recv(4096)
    accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
    assert answer.startswith(b"HTTP/1.1 101 ") and accept in answer, answer


async def test_empty_fields_are_absent(belayd):
    c = Narrow(belayd, bearer=token(), extra="Sec-WebSocket-Protocol:\r\nSec-WebSocket-Extensions: \r\n")
    assert b"Sec-WebSocket-Protocol" not in c.head and b"Sec-WebSocket-Extensions" not in c.head
    assert json.loads(c.read()[1])["type"] == "connected"


async def test_null_is_missing(belayd):
    """Serializers of C#, Kotlin and Go write null for what is not there; it is no invalid message either."""
    c = await belayd.user()
    for m in ('{"type":"ping","id":null}', '{"type":"ping","payload":null}', '{"type":"ping","id":null,"payload":null}') * 10:
        await c.ws.send(m)
        answer = await c.recv()
        assert answer["type"] == "pong" and "re" not in answer, answer
    await c.ws.send('{"type":"cancel","id":"a","payload":null}')
    answer = await c.recv()
    assert (answer["re"], answer["payload"]["field"]) == ("a", "payload.commandId"), answer
    await c.close()


@pytest.mark.parametrize("codes, code", [("registered", 1013), ("classic", 1001)])
async def test_why_comes_before_the_code(start, codes, code):
    """Too many connections, of a user, of an address behind a proxy, and of the instance: each hears when to come back."""
    d = start({"limits.connections_per_user": 1, "limits.connections_per_ip": 2, "limits.connections": 4, "ws.close_codes": codes,
               "server.trusted_proxies": "127.0.0.1"}, workers=1)
    held = [await d.user("u1")]
    for i in range(2):
        held.append(await d.open("/ws", {"Authorization": f"Bearer {token(f'v{i}')}", "X-Forwarded-For": "192.0.2.1"}))
    for bearer, extra in ((token("u1"), ""), (token("v2"), "X-Forwarded-For: 192.0.2.1\r\n")):
        said, got, reason = last_words(Narrow(d, bearer=bearer, extra=extra))
        assert (got, reason, [m["type"] for m in said]) == (code, "Too many connections", ["error"]), said
        assert said[0]["payload"]["code"] == "too_many" and 0 < said[0]["payload"]["retryAfterMs"] <= 60000
    held.append(await d.user("u4"))
    said, got, _ = last_words(Narrow(d, bearer=token("u5")))
    assert (got, said[0]["payload"]["code"]) == (code, "too_many") and said[0]["payload"]["retryAfterMs"] > 0
    for c in held:
        await c.close()


async def test_a_restart_in_classic_codes(start):
    d = start({"ws.close_codes": "classic"}, workers=1)
    c = await d.user()
    d.stop()
    assert await c.closed() == (1001, "Service restart")
    assert [m["type"] for m in c.kept] == ["reconnect"]


async def test_guests_behind_proxy_protocol(start):
    """Where the instance is full, and where the client's address has enough: the answer is the same as without a balancer."""
    d = start({"limits.connections": 2, "server.proxy_protocol": "true", "server.trusted_proxies": "127.0.0.1"}, workers=1)
    held = [Early(d, v2(f"192.0.2.{i}"), token(f"u{i}")) for i in range(2)]
    assert all(b" 101 " in c.head for c in held)
    one = Early(d, v2("192.0.2.9"), token("u9"))
    assert b" 101 " in one.head, one.head
    said, code, _ = last_words(one)
    assert (code, said[0]["payload"]["code"]) == (1013, "too_many")
    plain = Narrow(d, upgrade=False)
    plain.send(v2("192.0.2.9") + b"GET /api/device HTTP/1.1\r\nHost: x\r\n\r\n")
    while plain.more():
        pass
    assert plain.data.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in plain.data, plain.data


async def test_an_address_has_enough_behind_proxy_protocol(start):
    d = start({"limits.connections_per_ip": 1, "server.proxy_protocol": "true", "server.trusted_proxies": "127.0.0.1"}, workers=1)
    held = Early(d, v2("192.0.2.1"), token("u1"))
    assert b" 101 " in held.head
    one = Early(d, v2("192.0.2.1"), token("u2"))
    assert b" 101 " in one.head, one.head
    said, code, reason = last_words(one)
    assert (code, reason, said[0]["payload"]["code"]) == (1013, "Too many connections", "too_many")
    other = Early(d, v2("192.0.2.2"), token("u3"))
    assert json.loads(other.read()[1])["type"] == "connected"


async def test_proxy_protocol_by_listener(start):
    """One listener behind a balancer that sends the header, one beside it for clients that do not."""
    second = free_port()
    d = start({"server.trusted_proxies": "127.0.0.1"}, workers=1, wait=False)
    d.stop()
    d.settings["server.listen"] = f"127.0.0.1:{d.port},127.0.0.1:{second}"
    d.settings["server.proxy_listen"] = f"127.0.0.1:{second}"
    d.start()

    def get(port, before):
        c = Narrow(d, port=port, upgrade=False)
        c.send(before + b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while c.more():
            pass
        return c.data.split(b"\r\n")[0]

    assert get(d.port, b"") == b"HTTP/1.1 200 OK"
    assert get(d.port, v2("192.0.2.1")).startswith(b"HTTP/1.1 400 ")
    assert get(second, v2("192.0.2.1")) == b"HTTP/1.1 200 OK"
    assert get(second, b"") == b""
    d.settings["server.proxy_listen"] = f"127.0.0.1:{free_port()}"
    assert subprocess.run(d.command("-t"), capture_output=True, env=clean_environment()).returncode == 1
