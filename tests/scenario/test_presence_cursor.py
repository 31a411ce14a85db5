"""Where a dashboard stands: connected.cursor, resuming from it, and what is no cursor."""

import asyncio
import os
import signal

import pytest

import belay
from belay import eventually, token
from conftest import check_log


@pytest.fixture
def start(tmp_path):
    made = []

    def go(settings=None, **kwargs):
        daemon = belay.Belayd(tmp_path / f"belayd{len(made)}", settings, **kwargs)
        made.append(daemon)
        return daemon.start()

    yield go
    for daemon in made:
        try:
            if daemon.process is not None:
                daemon.stop(signal.SIGQUIT)
        finally:
            check_log(daemon)


def cursor_of(client):
    return client.connected["payload"]["cursor"]


async def resumed(daemon, cursor, **who):
    """What a dashboard that comes back with the cursor gets: the messages, and the last one."""
    c = await daemon.user(query=f"?resume={cursor}", **who)
    got = []
    while True:
        m = await c.recv()
        if m["type"] in ("resumed", "gap"):
            await c.close()
            return got, m, cursor_of(c)
        got.append(m)


async def test_nothing_seen(start):
    """A dashboard that was told nothing but the greeting resumes from there, exactly."""
    daemon = start()
    bdt = await daemon.register("d1")
    device = await daemon.device("d1", bdt)
    assert "cursor" not in device.connected["payload"]
    first = await daemon.user()
    await first.close()
    got, end, again = await resumed(daemon, cursor_of(first))
    assert (got, end["payload"]["replayed"]) == ([], 0)
    for n in range(3):
        assert (await device.ask("event", {"event": "x_n", "data": {"n": n}}))["type"] == "ok"
    for _ in range(2):		# again: greeted with the cursor that it came with, since it may be cut off before the first event
        got, end, again = await resumed(daemon, again)
        assert [m["payload"]["data"]["n"] for m in got] == [0, 1, 2]
        assert end["payload"]["replayed"] == 3
    # A new one stands behind them.
    fresh = await daemon.user()
    got, end, _ = await resumed(daemon, cursor_of(fresh))
    assert (got, end["type"]) == ([], "resumed")


async def test_before_anything_happened_in_the_tenant(start):
    daemon = start()
    first = await daemon.user("u1", "new")
    got, end, again = await resumed(daemon, cursor_of(first), tenant="new")
    assert (got, end["type"]) == ([], "resumed")
    bearer = belay.token("u1", "new")
    device = await daemon.device("d1", await daemon.register("d1", bearer))
    await device.ask("event", {"event": "x_a"})
    wanted = ["device_event", "device_connected", "device_event"]		# registered, connected, x_a
    live = [(await first.expect(t)) for t in wanted]
    for cursor in (cursor_of(first), again):
        got, end, _ = await resumed(daemon, cursor, tenant="new")
        assert [m["type"] for m in got] == wanted and [m["cursor"] for m in got] == [m["cursor"] for m in live]
    # Nobody of another tenant can do anything with one that is of a place.
    got, end, _ = await resumed(daemon, live[0]["cursor"], tenant="t2")
    assert (got, end["type"]) == ([], "gap")


async def test_what_is_no_cursor(start):
    """An empty one and a made-up one: a gap, and a greeting from which it can go on."""
    daemon = start()
    device = await daemon.device("d1", await daemon.register("d1"))
    await device.ask("event", {"event": "x_a"})
    for cursor in ("", "A" * 22, "not-a-cursor", "0", "1", "A" * 500):
        got, end, here = await resumed(daemon, cursor)
        assert (got, end["type"]) == ([], "gap"), cursor
        got, end, _ = await resumed(daemon, here)
        assert (got, end["type"]) == ([], "resumed")


async def test_nothing_is_missed_between_two_connections(start):
    """Events come without a pause: each connection resumes from the greeting of the one before, which was cut off at once."""
    daemon = start({"limits.message_rate": 100000, "limits.message_burst": 100000, "limits.replay": 100000})
    device = await daemon.device("d1", await daemon.register("d1"))
    first = await daemon.user()
    last, over = [-1], asyncio.Event()

    async def tell():
        while not over.is_set():
            last[0] += 1
            await device.ask("event", {"event": "x_n", "data": {"n": last[0]}})

    task = asyncio.ensure_future(tell())
    cursors = [cursor_of(first)]
    for _ in range(20):
        c = await daemon.user()
        cursors.append(cursor_of(c))
        c.ws.transport.abort()
    over.set()
    await task
    begins = []
    for cursor in cursors:
        got, end, _ = await resumed(daemon, cursor)
        assert end["type"] == "resumed"
        seen = [m["payload"]["data"]["n"] for m in got]
        assert seen == list(range(last[0] + 1 - len(seen), last[0] + 1))
        begins.append(len(seen))
    assert begins[0] == last[0] + 1 and begins == sorted(begins, reverse=True)


async def test_size_does_not_matter(start):
    """300 events of 3 kB were a gap once."""
    daemon = start({"limits.message_rate": 100000, "limits.message_burst": 100000})
    device = await daemon.device("d1", await daemon.register("d1"))
    first = await daemon.user()
    await first.close()
    for n in range(300):
        await device.send("event", {"event": "x_n", "data": {"n": n, "fill": "x" * 3000}}, str(n))
    for n in range(300):
        assert (await device.expect("ok"))["re"] == str(n)
    got, end, _ = await resumed(daemon, cursor_of(first))
    assert (end["type"], end["payload"]) == ("resumed", {"replayed": 300})
    assert [m["payload"]["data"]["n"] for m in got] == list(range(300))


async def test_readers_that_do_not_answer(start):
    """Whoever resumes nothing is let in all the same, without a place; whoever resumes is told to try again."""
    daemon = start({"store.readers": 1, "server.hang_time": "10m"})
    await daemon.register("d1")
    pid = daemon.workers("reader")["reader 1"]
    os.kill(pid, signal.SIGSTOP)
    try:
        c = await daemon.user()
        assert "cursor" not in c.connected["payload"]
        assert (await c.ask("ping"))["type"] == "pong"
    finally:
        os.kill(pid, signal.SIGCONT)
    c = await daemon.user()
    assert cursor_of(c)


async def test_nothing_comes_before_the_greeting(start):
    """What a back end sent stood before `connected`, where a reader had not said yet where the connection stands."""
    daemon = start({"store.readers": 1, "server.hang_time": "10m"})
    backend = token("backend", role="service")

    async def is_there():
        _, body = await daemon.rest("GET", "/v1/websocket/user/u1/status", bearer=backend)
        return body["connected"]

    pid = daemon.workers("reader")["reader 1"]
    os.kill(pid, signal.SIGSTOP)
    try:
        opening = asyncio.ensure_future(daemon.user())
        await eventually(is_there)
        for path, body in (("/v1/websocket/send/u1", {}), ("/v1/websocket/broadcast", {"userIds": ["u1"]})):
            status, _ = await daemon.rest("POST", path, {"type": "x_news", "payload": {}, **body}, backend)
            assert status == 200
        c = await opening
        assert c.connected["type"] == "connected"
    finally:
        os.kill(pid, signal.SIGCONT)
    for _ in "12":
        await c.expect("x_news")


async def test_reader_killed_while_dashboards_come(start):
    daemon = start({"store.readers": 1})
    bdt = await daemon.register("d1")
    device = await daemon.device("d1", bdt)
    for _ in range(3):
        pid = daemon.workers("reader")["reader 1"]
        coming = [asyncio.ensure_future(daemon.user()) for _ in range(20)]
        os.kill(pid, signal.SIGKILL)
        clients = await asyncio.gather(*coming)
        await device.ask("event", {"event": "x_a"})
        for c in clients:
            await c.expect("device_event")
            await c.close()


async def test_an_event_of_1970(start):
    """What a device says of the time is what it says; the event is kept from when it came."""
    daemon = start({"store.event_retention": "1h"})
    device = await daemon.device("d1", await daemon.register("d1"))
    assert (await device.ask("event", {"event": "x_old", "at": "1970-01-01T00:00:01.000Z"}))["type"] == "ok"
    daemon.process.send_signal(signal.SIGHUP)		# what is too old is looked for at once
    await eventually(lambda: reloaded(daemon))
    commits = await daemon.metric("belay_store_commits_total")
    await eventually(lambda: more_commits(daemon, commits + 3))
    _, body = await daemon.rest("GET", "/api/device/d1/events")
    found = [e for e in body["events"] if e["event"] == "x_old"]
    assert [e["at"] for e in found] == ["1970-01-01T00:00:01.000Z"] and found[0]["receivedAt"] > "2020"


async def reloaded(daemon):
    return await daemon.metric("belay_reloads_total") >= len(daemon.workers())


async def more_commits(daemon, wanted):
    await daemon.rest("GET", "/health/ready")		# each is a write
    return await daemon.metric("belay_store_commits_total") >= wanted
