"""Nobody fills the log without a token, and whoever does not read it stops nobody."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import threading

import pytest

from belay import LOGS, PATIENCE, Belayd, Stopwatch, eventually

REQUEST = b"GET /api/device HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n"
REFUSED = re.compile(r" (\S+) refused: ")
MORE = re.compile(r" (\S+) refused (\d+) more times ")


def flood(port, n, source="127.0.0.1"):
    """So many refused requests on one connection; returns when all are answered."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(source, 0)) as s:
        sender = threading.Thread(target=lambda: [s.sendall(REQUEST * 100) for _ in range(n // 100)])
        sender.start()
        answers, tail = 0, b""
        while answers < n:
            piece = s.recv(1 << 16)
            assert piece, "the connection ended"
            tail += piece
            answers += tail.count(b"HTTP/1.1 401 ")
            tail = tail[-12:] if not tail.endswith(b"HTTP/1.1 401 ") else b""
        sender.join()


async def test_refusals_are_counted(start):
    """One connection with 20,000 bad tokens: some lines, and how many were left out.  Another address has lines of its own."""
    belayd = start(workers=1)
    await asyncio.to_thread(flood, belayd.port, 20000)
    await asyncio.to_thread(flood, belayd.port, 100, "127.0.0.9")
    left_out = await belayd.metric("belay_log_refusals_left_out_total")
    assert left_out >= 19000
    assert await belayd.metric('belay_auth_total{result="invalid"}') == 20100
    assert belayd.stop() == 0		# what was left out is told at the latest now
    text = belayd.log_text()
    lines = REFUSED.findall(text)
    told = [(peer, int(n)) for peer, n in MORE.findall(text)]
    assert len(lines) + sum(n for _, n in told) == 20100 and sum(n for _, n in told) == left_out
    assert 10 <= lines.count("127.0.0.9") <= 100 and lines.count("127.0.0.1") <= 20000 / 10
    assert {peer for peer, _ in told} == {"127.0.0.1", "127.0.0.9"}
    assert len(text) < 200_000, "not a line for each"


async def test_refusals_of_many_addresses(start):
    """Each has a line, until there are too many; those are counted together.  Nothing grows with their number."""
    belayd = start(workers=1)

    def one(i):
        with socket.create_connection(("127.0.0.1", belayd.port), PATIENCE, source_address=(f"127.1.{i // 250}.{i % 250 + 1}", 0)) as s:
            s.sendall(REQUEST)
            assert s.recv(100).startswith(b"HTTP/1.1 401 ")

    for i in range(2000):
        await asyncio.to_thread(one, i)
    left_out = await belayd.metric("belay_log_refusals_left_out_total")
    assert belayd.stop() == 0
    lines = REFUSED.findall(belayd.log_text())
    others = re.findall(r" other addresses refused (\d+) times ", belayd.log_text())
    assert len(lines) + sum(map(int, others)) == 2000 and sum(map(int, others)) == left_out
    assert len(set(lines)) == len(lines) >= 100
    # That is said at the end of each 10 seconds, in which there are 200 at most.
    assert others and all(len(REFUSED.findall(part)) <= 200 for part in re.split(r" other addresses refused ", belayd.log_text()))


@pytest.fixture
def unread(tmp_path):
    """unread(settings…): a belayd whose standard error is a pipe that is full, and which nobody reads; .reader is its other end."""
    made = []

    def go(settings=None, **kwargs):
        d = Belayd(tmp_path / "belayd", settings, **kwargs)
        LOGS.pop(d.log_path)
        os.mkfifo(d.log_path)
        d.reader = os.open(d.log_path, os.O_RDONLY | os.O_NONBLOCK)
        filler = os.open(d.log_path, os.O_WRONLY | os.O_NONBLOCK)
        for size in (4096, 1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(filler, b"\n" * size)
        os.close(filler)
        made.append(d)
        return d.start()

    yield go
    for d in made:
        assert d.stop() == 0
        os.close(d.reader)


def close_badly(port):
    """A WebSocket that says nothing of a token and breaks the protocol: a line at the level debug."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as s:
        s.sendall(b"GET /ws?auth=message HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\xff\xff")
        while s.recv(4096):
            pass


async def test_nobody_reads_the_log(unread):
    """Lines wait in a bounded room of the process, then they are lost and counted; no process waits, none is killed."""
    d = unread({"server.log_level": "debug", "server.hang_time": "2s"}, workers=1)
    workers = d.workers()
    for _ in range(1500):
        await asyncio.to_thread(close_badly, d.port)
    watch = Stopwatch(d)
    assert (await d.rest("GET", "/api/device"))[0] == 200
    _, own = watch.stop()
    assert own < 1, own
    lost = await eventually(lambda: d.metric("belay_log_lines_lost_total"))
    assert d.workers() == workers and await d.metric("belay_worker_deaths_total") == 0
    # Who reads again finds what waited, in order, and how many are missing.
    text = b""

    async def there():
        nonlocal text
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(d.reader, 1 << 16):
                text += piece
        await asyncio.to_thread(close_badly, d.port)
        return b"lines before this one were lost" in text
    await eventually(there)
    told = re.findall(rb"gateway 1\[\d+\]: (\d+) lines before this one were lost\n", text)
    assert sum(map(int, told)) >= lost > 0
    assert text.index(b"WebSocket closed") < text.index(b"lines before this one were lost")
    assert all(re.match(rb"\d{4}-\d\d-\d\dT.*: .*$", line) for line in text.split(b"\n") if line)


async def test_a_reader_that_has_gone(unread):
    """A pipe without a reader is no reason to end."""
    d = unread({"server.log_level": "debug"}, workers=1)
    workers = d.workers()
    os.close(d.reader)
    d.reader = os.open("/dev/null", os.O_RDONLY)
    for _ in range(20):
        await asyncio.to_thread(close_badly, d.port)
    d.process.send_signal(signal.SIGHUP)
    await eventually(lambda: d.metric("belay_reloads_total"))
    assert d.workers() == workers
    await eventually(lambda: d.metric("belay_log_lines_lost_total"))
