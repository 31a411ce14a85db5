"""RFC 6455 as the wire shows it: the case families of the Autobahn test suite against /echo, and the opening handshake.

A client of its own that can break every rule; belayd answers each message of /echo with itself.
"""

import asyncio
import os
import signal
import socket
import struct

import pytest
import websockets
import websockets.extensions.permessage_deflate

import belay

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@pytest.fixture(scope="module")
def belayd(tmp_path_factory):
    daemon = belay.Belayd(tmp_path_factory.mktemp("echo"), {"server.echo": "yes", "ws.deflate": "yes"}, workers=1, store="memory:").start()
    yield daemon
    assert daemon.stop() == 0


def frame(opcode, payload=b"", fin=True, rsv=0, mask=b"\x12\x34\x56\x78", length=None):
    if isinstance(payload, str):
        payload = payload.encode()
    n = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if n < 126:
        head += bytes([bit | n])
    elif n < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", n)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", n)
    if mask:
        head += mask
        payload = bytes(b ^ mask[i & 3] for i, b in enumerate(payload)) if len(payload) < 100000 else fast_mask(payload, mask)
    return head + payload


def fast_mask(payload, mask):
    n = len(payload)
    key = int.from_bytes((mask * (n // 4 + 1))[:n], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(n, "big")


class Wire:
    def __init__(self, belayd):
        self.belayd = belayd

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.belayd.port, limit=1 << 25)
        self.writer.write((f"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), belay.PATIENCE)
        assert b" 101 " in head and ACCEPT.encode() in head
        return self

    async def __aexit__(self, *args):
        self.writer.close()

    async def send(self, *frames, chop=None):
        data = b"".join(frames)
        for i in range(0, len(data), chop or len(data) or 1):
            self.writer.write(data[i:i + (chop or len(data))])
            if chop:
                await self.writer.drain()
                await asyncio.sleep(0)
        await self.writer.drain()

    async def recv(self, timeout=belay.PATIENCE):
        """(opcode, payload) of the next frame, or None when TCP ended."""
        async def read():
            try:
                a, b = await self.reader.readexactly(2)
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return None
            assert a & 0x70 == 0 and b & 0x80 == 0 and a & 0x80
            n = b & 0x7f
            if n == 126:
                n, = struct.unpack(">H", await self.reader.readexactly(2))
            elif n == 127:
                n, = struct.unpack(">Q", await self.reader.readexactly(8))
            return a & 15, await self.reader.readexactly(n)
        return await asyncio.wait_for(read(), timeout)

    async def closed_with(self, code, timeout=belay.PATIENCE, ours=False):
        """The next frame is a close with that code (and its reason, unless it answers ours), and TCP is ended by the server."""
        opcode, payload = await self.recv(timeout)
        assert opcode == CLOSE, (opcode, payload[:80])
        got = struct.unpack(">H", payload[:2])[0] if payload else None
        assert got in (code if isinstance(code, tuple) else (code,)), (got, payload)
        reason = payload[2:].decode()
        assert ours or reason.startswith({1002: "Protocol error: ", 1007: "Invalid UTF-8", 1009: "Message too big"}.get(got, "")), reason
        assert await self.recv(timeout) is None


def close(code=None, reason=b""):
    return frame(CLOSE, b"" if code is None else struct.pack(">H", code) + reason)


async def still_good(w):
    await w.send(frame(TEXT, "good"))
    assert await w.recv() == (TEXT, b"good")
    await w.send(close(1000))
    await w.closed_with(1000)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20, (16 << 20)])
async def test_1_and_9_sizes(belayd, opcode, size):
    payload = b"*" * size if opcode == TEXT else os.urandom(size)
    async with Wire(belayd) as w:
        await w.send(frame(opcode, payload))
        assert await w.recv(30) == (opcode, payload)
        await still_good(w)


@pytest.mark.parametrize("size, chop", [(65536, 997), (200, 1), (1 << 20, 65521)])
async def test_1_and_9_chopped(belayd, size, chop):
    async with Wire(belayd) as w:
        await w.send(frame(TEXT, b"*" * size), chop=chop)
        assert await w.recv(20) == (TEXT, b"*" * size)
        await still_good(w)


async def test_1_too_big(belayd):
    async with Wire(belayd) as w:
        await w.send(frame(BINARY, b"", length=(16 << 20) + 1))
        await w.closed_with(1009)
    async with Wire(belayd) as w:
        await w.send(frame(BINARY, b"", length=1 << 63))
        await w.closed_with((1002, 1009))


@pytest.mark.parametrize("fragment", [64, 256, 1024, 65536])
async def test_9_fragmented_messages(belayd, fragment):
    payload = os.urandom(1 << 20) if fragment >= 1024 else os.urandom(1 << 18)
    parts = [payload[i:i + fragment] for i in range(0, len(payload), fragment)]
    async with Wire(belayd) as w:
        await w.send(*[frame(BINARY if i == 0 else CONT, p, fin=i == len(parts) - 1) for i, p in enumerate(parts)])
        assert await w.recv(20) == (BINARY, payload)
        await still_good(w)


async def test_2_pings(belayd):
    async with Wire(belayd) as w:
        for payload in (b"", b"Hello", bytes(range(125)), b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125):
            await w.send(frame(PING, payload))
            assert await w.recv() == (PONG, payload)
        await w.send(frame(PING, b"\xfe" * 125), chop=1)
        assert await w.recv() == (PONG, b"\xfe" * 125)
        await w.send(frame(PONG), frame(PONG, "unsolicited"), frame(PING, "behind"))
        assert await w.recv() == (PONG, b"behind")
        await w.send(*[frame(PING, f"{i}") for i in range(10)])
        for i in range(10):
            assert await w.recv() == (PONG, b"%d" % i)
        await still_good(w)
    async with Wire(belayd) as w:
        await w.send(frame(PING, b"\xfe" * 126))
        await w.closed_with(1002)


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode, payload", [(TEXT, b"x"), (PING, b""), (CLOSE, b""), (BINARY, b"x")])
@pytest.mark.parametrize("chop", [None, 1])
async def test_3_reserved_bits(belayd, rsv, opcode, payload, chop):
    async with Wire(belayd) as w:
        await w.send(frame(TEXT, "first"), frame(opcode, payload, rsv=rsv), frame(PING), chop=chop)
        assert await w.recv() == (TEXT, b"first")
        await w.closed_with(1002)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"reserved"])
async def test_4_reserved_opcodes(belayd, opcode, payload):
    async with Wire(belayd) as w:
        await w.send(frame(TEXT, "first"), frame(opcode, payload), frame(PING))
        assert await w.recv() == (TEXT, b"first")
        await w.closed_with(1002)


BAD_FRAGMENTS = {
    "5.1 fragmented ping": [frame(PING, "a", fin=False), frame(CONT, "b")],
    "5.2 fragmented pong": [frame(PONG, "a", fin=False), frame(CONT, "b")],
    "5.9 continuation of nothing": [frame(CONT, "x"), frame(TEXT, "y")],
    "5.12 continuation of nothing, unfinished": [frame(CONT, "x", fin=False), frame(TEXT, "y")],
    "5.15 continuation behind a whole message": [frame(TEXT, "a", fin=False), frame(CONT, "b"), frame(CONT, "c", fin=False), frame(TEXT, "d")],
    "5.18 a new message inside one": [frame(TEXT, "a", fin=False), frame(TEXT, "b")],
}


@pytest.mark.parametrize("name", BAD_FRAGMENTS)
@pytest.mark.parametrize("chop", [None, 1])
async def test_5_bad_fragments(belayd, name, chop):
    async with Wire(belayd) as w:
        await w.send(*BAD_FRAGMENTS[name], chop=chop)
        if name.startswith("5.15"):
            assert await w.recv() == (TEXT, b"ab")
        await w.closed_with(1002)


@pytest.mark.parametrize("chop", [None, 1])
async def test_5_good_fragments(belayd, chop):
    async with Wire(belayd) as w:
        await w.send(frame(TEXT, "a", fin=False), frame(CONT, "b"), chop=chop)
        assert await w.recv() == (TEXT, b"ab")
        await w.send(frame(TEXT, "a", fin=False), frame(PING, "p"), frame(CONT, "b"), chop=chop)
        assert await w.recv() == (PONG, b"p")
        assert await w.recv() == (TEXT, b"ab")
        await w.send(frame(TEXT, "", fin=False), frame(CONT, "", fin=False), frame(CONT, ""), chop=chop)
        assert await w.recv() == (TEXT, b"")
        parts = [frame(TEXT, "f1", fin=False)]
        for i in range(2, 6):
            parts += [frame(PING, f"p{i}"), frame(CONT, f"f{i}", fin=i == 5)]
        await w.send(*parts, chop=chop)
        for i in range(2, 6):
            assert await w.recv() == (PONG, b"p%d" % i)
        assert await w.recv() == (TEXT, b"f1f2f3f4f5")
        await still_good(w)


GOOD_TEXT = [
    "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00\x7f\u0080\u07ff\u0800\uffff", "\ud7ff\ue000\ufffd", "\U00010000\U0010ffff", "\ufffe\uffff",
    "", "\U0001f600" * 100,
]
BAD_TEXT = [
    b"\x80", b"\xbf", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf",
    b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80",
    b"\xf7\xbf\xbf\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80", b"\xfe", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"a\xff",
    b"\x81", b"\xce\xba\xe1\xbd",
]


async def test_6_good_text(belayd):
    async with Wire(belayd) as w:
        for text in GOOD_TEXT:
            data = text.encode("utf-8", "surrogatepass")
            await w.send(frame(TEXT, data))
            assert await w.recv() == (TEXT, data)
            if data:
                await w.send(*[frame(TEXT if i == 0 else CONT, data[i:i + 1], fin=i == len(data) - 1) for i in range(len(data))])
                assert await w.recv() == (TEXT, data)
        await still_good(w)


@pytest.mark.parametrize("bad", BAD_TEXT, ids=lambda b: b.hex())
async def test_6_bad_text(belayd, bad):
    async with Wire(belayd) as w:
        await w.send(frame(TEXT, bad))
        await w.closed_with(1007)
    async with Wire(belayd) as w:
        await w.send(*[frame(TEXT if i == 0 else CONT, bad[i:i + 1], fin=i == len(bad) - 1) for i in range(len(bad))])
        await w.closed_with(1007)


async def test_6_4_fails_at_the_first_bad_byte(belayd):
    """6.4.1 to 6.4.4, strictly: nothing more is sent, and the connection is failed all the same."""
    good, bad = "κόσμε".encode(), b"\xf4\x90\x80\x80"
    async with Wire(belayd) as w:
        await w.send(frame(TEXT, good, fin=False), frame(CONT, bad, fin=False))
        await w.closed_with(1007)
    async with Wire(belayd) as w:
        whole = frame(TEXT, good + bad + good)
        await w.send(whole[:6 + len(good) + 2])
        await w.closed_with(1007)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
async def test_7_good_close_codes(belayd, code):
    async with Wire(belayd) as w:
        await w.send(close(code, b"reason"))
        await w.closed_with(code, ours=True)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
async def test_7_bad_close_codes(belayd, code):
    async with Wire(belayd) as w:
        await w.send(close(code))
        await w.closed_with(1002)


async def test_7_close_forms(belayd):
    async with Wire(belayd) as w:
        await w.send(close())
        opcode, payload = await w.recv()
        assert opcode == CLOSE and payload in (b"", struct.pack(">H", 1000))
        assert await w.recv() is None
    for payload, code in ((b"\x03", 1002), (struct.pack(">H", 1000) + b"\xff", (1007, 1002)), (struct.pack(">H", 1000) + b"x" * 124, 1002)):
        async with Wire(belayd) as w:
            await w.send(frame(CLOSE, payload))
            await w.closed_with(code)
    async with Wire(belayd) as w:
        await w.send(close(1000, b"y" * 123))
        await w.closed_with(1000)
    async with Wire(belayd) as w:           # nothing behind a close is answered
        await w.send(close(1000), frame(TEXT, "x"), frame(PING), close(1000))
        await w.closed_with(1000)
    async with Wire(belayd) as w:           # a message that was begun is not owed
        await w.send(frame(TEXT, "x", fin=False), close(1000))
        await w.closed_with(1000)


async def test_masks(belayd):
    async with Wire(belayd) as w:
        await w.send(frame(TEXT, "unmasked", mask=None))
        await w.closed_with(1002)
    async with Wire(belayd) as w:
        await w.send(frame(TEXT, "zero", mask=b"\0\0\0\0"))
        assert await w.recv() == (TEXT, b"zero")


async def test_lengths_must_be_minimal(belayd):
    for head in (b"\x81\xfe\x00\x05", b"\x81\xff" + struct.pack(">Q", 5), b"\x81\xff" + struct.pack(">Q", 65535)):
        async with Wire(belayd) as w:
            await w.send(head + b"\0\0\0\0hello")
            await w.closed_with(1002)


async def test_flood_of_fragments_is_bounded(start):
    belayd = start(workers=1)
    c = await belayd.raw(f"/ws?token={belay.token()}")
    await c.recv()
    transport = c.ws.transport
    transport.write(frame(TEXT, "", fin=False))
    for _ in range(200):
        transport.write(frame(CONT, "", fin=False) * 100)
        await asyncio.sleep(0)
    assert (await c.closed())[0] == 1009


@pytest.mark.parametrize("size", [0, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072])
@pytest.mark.parametrize("kind", ["json", "random"])
async def test_12_and_13_deflate(belayd, size, kind):
    offers = [
        [websockets.extensions.permessage_deflate.ClientPerMessageDeflateFactory(server_no_context_takeover=s, client_no_context_takeover=c, client_max_window_bits=b)]
        for s, c, b in ((False, False, None), (True, True, 9), (False, True, 15), (True, False, True))
    ]
    text = ('{"temperature": 21.5, "at": "2026-01-31T12:00:00.123Z"}, ' * (size // 50 + 1))[:size]
    payload = text if kind == "json" else os.urandom(size)
    for extensions in offers:
        c = await belayd.raw("/echo", extensions=extensions)
        assert c.ws.extensions, "deflate was not agreed on"
        for _ in range(5):
            await c.ws.send(payload)
            assert await asyncio.wait_for(c.ws.recv(), belay.PATIENCE) == payload
        await c.ws.send([payload[:size // 2], payload[size // 2:]] if size else [payload])
        assert await asyncio.wait_for(c.ws.recv(), belay.PATIENCE) == payload
        await c.close()
        assert c.ws.close_code == 1000


async def test_deflate_bomb(start):
    belayd = start({"ws.deflate": "yes"}, workers=1)
    extensions = [websockets.extensions.permessage_deflate.ClientPerMessageDeflateFactory()]
    c = await belayd.raw(f"/ws?token={belay.token()}", extensions=extensions)
    await c.recv()
    await c.ws.send("x" * (32 << 20))
    assert (await c.closed())[0] == 1009


async def handshake(belayd, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", belayd.port)
    writer.write(request.replace("\n", "\r\n").encode("latin-1"))
    await writer.drain()
    data = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), belay.PATIENCE)
    writer.close()
    return int(data.split()[1]), data.decode()


GOOD = f"GET /echo HTTP/1.1\nHost: x\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Key: {KEY}\nSec-WebSocket-Version: 13\n\n"


@pytest.mark.parametrize("change, status", [
    ((), 101),
    (("Upgrade: websocket", "uPGRADE: WebSocket"), 101),
    (("Connection: Upgrade", "Connection: keep-alive, Upgrade"), 101),
    (("GET /echo", "GET /echo?x=y"), 101),
    (("Host: x\n", "Host: x\nSec-WebSocket-Protocol: a, b\n"), 101),
    (("Host: x\n", "Host: x\nSec-WebSocket-Extensions: foo; bar=1\n"), 101),
    (("Host: x\n", ""), 400),
    (("Host: x\n", "Host: x\nHost: y\n"), 400),
    (("HTTP/1.1", "HTTP/1.0"), 400),
    (("HTTP/1.1", "HTTP/2.0"), 505),
    (("GET", "POST"), 405),
    (("GET", "get"), 405),
    (("Upgrade: websocket\n", ""), 426),
    (("Upgrade: websocket", "Upgrade: h2c"), 426),
    (("Connection: Upgrade\n", ""), 400),
    (("Connection: Upgrade", "Connection: close"), 400),
    ((f"Sec-WebSocket-Key: {KEY}\n", ""), 400),
    ((f"{KEY}\n", f"{KEY}\nSec-WebSocket-Key: {KEY}\n"), 400),
    ((KEY, "c2hvcnQ="), 400),
    ((KEY, "not base64 at all!!!!!!="), 400),
    (("Version: 13", "Version: 8"), 426),
    (("Sec-WebSocket-Version: 13\n", ""), 426),
    (("Version: 13", "Version: 13, 8"), (400, 426)),
    (("Host: x\n", "Host: x\nContent-Length: 5\n"), 400),
    (("Host: x\n", "Host : x\n"), 400),
    (("Host: x\n", "Host: x\n folded\n"), 400),
], ids=lambda v: str(v)[:60])
async def test_handshake(belayd, change, status):
    request = GOOD.replace(*change) if change else GOOD
    assert not change or request != GOOD
    got, head = await handshake(belayd, request)
    assert got in (status if isinstance(status, tuple) else (status,)), head
    if got == 101:
        assert f"Sec-WebSocket-Accept: {ACCEPT}" in head and "Sec-WebSocket-Protocol" not in head
    if got == 426:
        assert "Sec-WebSocket-Version: 13" in head
    if got == 405:
        assert "Allow:" in head


async def test_echo_is_off_by_default(start):
    belayd = start(workers=1)
    assert (await handshake(belayd, GOOD))[0] == 404


async def test_pipelined_behind_the_handshake(belayd):
    reader, writer = await asyncio.open_connection("127.0.0.1", belayd.port)
    writer.write(GOOD.replace("\n", "\r\n").encode() + frame(TEXT, "early") + frame(PING, "bird"))
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(7) == b"\x81\x05early"
    assert await reader.readexactly(6) == b"\x8a\x04bird"
    writer.close()


@pytest.mark.parametrize("path, late", [
    ("/echo", frame(BINARY, bytes(1 << 20))),               # larger than any message but one of /echo
    ("/ws", frame(TEXT, bytes(1 << 20), mask=None)),        # unmasked
    ("/ws", frame(TEXT, bytes(1 << 20), rsv=4)),            # compressed, which nobody agreed on
], ids=["large", "unmasked", "reserved"])
async def test_sending_on_behind_the_servers_close(start, path, late):
    """A client in the middle of sending when it is closed, whatever it sends, is not reset: it comes to read the close frame."""
    belayd = start({"server.echo": "yes"}, workers=1)
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n" \
        f"Sec-WebSocket-Version: 13\r\nAuthorization: Bearer {belay.token()}\r\n\r\n"

    def client():
        with socket.create_connection(("127.0.0.1", belayd.port), belay.PATIENCE) as s:
            s.sendall(head.encode())
            got = b""
            while b"\r\n\r\n" not in got:
                got += s.recv(4096)
            s.sendall(frame(PING, "here"))          # its pong: the session is open
            while b"\x8a\x04here" not in got:
                got += s.recv(4096)
            belayd.process.send_signal(signal.SIGTERM)
            while b"\x03\xf4" not in s.recv(4096, socket.MSG_PEEK):  # 1012 is there, and stays unread
                pass
            for _ in range(4):
                s.sendall(late)
            s.shutdown(socket.SHUT_WR)
            rest = b""
            while more := s.recv(4096):
                rest += more
            return rest

    rest = await asyncio.to_thread(client)
    closing = rest.index(b"\x03\xf4") - 2
    assert rest[closing] == 0x88 and rest[closing + 1] == len(rest) - closing - 2, rest
