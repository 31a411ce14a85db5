"""What one client makes belayd keep: control frames, small frames and answers to one that does not read, in bytes."""

import asyncio
import contextlib
import os
import shutil
import ssl
import threading
import time

import pytest

import fleet
from belay import PATIENCE, eventually, free_port, token
from certs import Authority
from narrow import BINARY, CLOSE, CONT, PING, PONG, TEXT, Narrow, frame, memory

FREE = {"limits.message_rate": 1000000, "limits.message_burst": 1000000}
ROOM = 64 << 20 if fleet.SANITIZED else 3 << 20
# Sanitizers keep what was freed, up to 256 MB; less of it where memory is measured.
SMALL_QUARANTINE = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=8"}
MANY = 100000


def serve(start, tmp_path, settings):
    """belayd with one gateway, and a TLS listener where there is openssl: (daemon, port, context)."""
    if not shutil.which("openssl"):
        pytest.skip("SKIP: openssl is wanted")
    authority = Authority(tmp_path / "certs")
    certificate, key = authority.issue("one")
    port = free_port()
    d = start({"server.tls_listen": f"127.0.0.1:{port}", "server.tls_certificate": str(certificate), "server.tls_key": str(key),
               "server.echo": "yes", **settings}, workers=1, env=SMALL_QUARANTINE)
    return d, port, ssl.create_default_context(cafile=str(authority.root))


# The path; what fills the kernel; what comes then, many times.
FLOODS = {
    "a user's pings": ("/ws", PING, [frame(PING)] * 50),
    "pings before any token": ("/ws?auth=message", PING, [frame(PING)] * 50),
    "pings at /echo": ("/echo", PING, [frame(PING)] * 50),
    "empty messages at /echo": ("/echo", TEXT, [frame(TEXT)] * 50),
    "small messages at /echo": ("/echo", BINARY, [frame(BINARY, b"x")] * 50),
    "pings between fragments": ("/echo", TEXT, [frame(TEXT, b"a", fin=False), *[frame(PING)] * 48, frame(CONT)]),
}


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("flood", FLOODS)
async def test_who_does_not_read_is_not_kept_for(start, tmp_path, flood, tls):
    d, port, context = serve(start, tmp_path, FREE)
    path, opcode, frames = FLOODS[flood]
    c = Narrow(d, path, None if path != "/ws" else token(), **({"tls": context, "port": port} if tls else {}))
    before = memory(d)
    c.fill(frame(opcode, b"x" * 125))
    with contextlib.suppress(OSError):		# it may be closed for being slow
        for _ in range(MANY // 5000):
            c.send(b"".join(frames) * 100)
        c.is_read()
    grown = memory(d) - before
    assert grown < ROOM, grown
    c.close()


async def test_one_pong_waits_the_newest(start):
    d = start({**FREE, "server.echo": "yes"}, workers=1)
    for path, bearer in (("/echo", None), ("/ws", token())):
        c = Narrow(d, path, bearer)
        c.fill(frame(PING, b"x" * 125))
        for i in range(1000):
            c.send(frame(PING, b"%d" % i))
        c.is_read()
        c.send(frame(CLOSE, b"\x03\xe8"))
        answers = []
        while (f := c.read()) is not None:
            if f[0] == PONG and f[1][:1] != b"x":
                answers.append(int(f[1]))
        # the socket may have taken a little in between
        assert answers == sorted(answers) and len(answers) < 20, answers
        c.close()
        c = Narrow(d, path, bearer)		# who reads has an answer to each
        for i in range(100):
            c.send(frame(PING, b"%d" % i))
        for i in range(100):
            while (f := c.read())[0] != PONG:
                pass
            assert f[1] == b"%d" % i
        c.close()


async def test_the_newest_ping_is_answered(start):
    """Blocked and then read from: the pong of the last ping comes, without anything else being sent."""
    d = start({**FREE, "server.echo": "yes"}, workers=1)
    c = Narrow(d, "/echo")
    c.fill(frame(PING, b"x" * 125))
    for i in range(1000):
        c.send(frame(PING, b"%d" % i))
    c.is_read()
    while (f := c.read())[1] != b"999":
        assert f[0] == PONG
    c.close()


async def test_pings_count_in_the_rate(start):
    """Beyond the burst one pong answers all of them, the newest; who goes on is closed like one that floods messages."""
    d = start({"limits.abuse_time": "1s"}, workers=1)
    c = Narrow(d, "/ws", token())
    c.send(b"".join(frame(PING, b"%d" % i) for i in range(1000)))
    answers = []
    while not answers or answers[-1] != 999:
        opcode, payload = c.read()
        if opcode == PONG:
            answers.append(int(payload))
    assert answers == sorted(answers) and answers[:100] == list(range(100)) and len(answers) < 900, answers
    assert await d.metric("belay_rate_limited_total") >= 100
    c.close()


@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("path", ["/ws", "/ws?auth=message"])
async def test_a_flood_of_control_frames_is_ended(start, path, opcode):
    d = start({"limits.abuse_time": "1s", "limits.message_rate": 5, "limits.message_burst": 5}, workers=1)
    c = Narrow(d, path, None if "auth" in path else token())
    over = threading.Event()

    def flood():
        with contextlib.suppress(OSError):
            while not over.is_set():
                c.send(frame(opcode) * 20)
                time.sleep(0.02)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        while (f := await asyncio.to_thread(c.read)) is not None and f[0] != CLOSE:
            pass
    finally:
        over.set()
        thread.join()
    assert f is not None and (int.from_bytes(f[1][:2], "big"), f[1][2:]) == (4029, b"Rate limited"), f
    c.close()


async def test_pings_are_signs_of_life(start):
    """A device's ping is heard of it like its messages."""
    d = start(workers=1)
    bdt = await d.register("alive-1")
    c = Narrow(d, "/ws?device=alive-1", bdt)
    assert c.expect("connected")

    async def last_seen():
        status, body = await d.rest("GET", "/api/device/alive-1")
        assert status == 200
        return body["device"]["presence"]["lastSeen"]

    before = await last_seen()

    async def newer():
        c.send(frame(PING))
        return await last_seen() > before
    await eventually(newer, every=0.2)
    c.close()


async def test_answers_over_http_wait_for_their_reader(start):
    """Requests that are sent without reading the answers are answered as they are read, each of them."""
    d = start(workers=1)
    c = Narrow(d, upgrade=False)
    one, count = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 60000
    before, sent = memory(d), 0

    def send():
        nonlocal sent
        with contextlib.suppress(OSError):
            for _ in range(count // 100):
                c.send(one * 100)
                sent += 100

    thread = threading.Thread(target=send)
    thread.start()
    try:
        was, end = -1, time.monotonic() + PATIENCE
        while was != sent and sent < count and time.monotonic() < end:		# until it sends no more, or is done
            was = sent
            await asyncio.sleep(0.5)
        grown = memory(d) - before
        assert grown < ROOM, (grown, sent)
        tail, answers = b"", 0
        while answers < count:
            assert await asyncio.to_thread(c.more), (answers, sent)
            text = tail + c.data
            answers += text.count(b"HTTP/1.1 200")
            tail, c.data = text[-11:], b""
    finally:
        c.close()
        thread.join()
