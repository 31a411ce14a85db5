"""GET /health/ready while a server leaves: 503 to load balancers from the first moment to the last, on every listener."""

import asyncio
import contextlib
import signal

import pytest

import belay
from belay import PATIENCE, eventually, free_port
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


async def asked(port, path="/health/ready", more=""):
    """Status of a request on a connection of its own; None: it was refused, or no answer came."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())
        line = await asyncio.wait_for(reader.readline(), PATIENCE)
        writer.close()
        return int(line.split()[1]) if line else None
    except OSError:
        return None


async def is_ready(port, wanted):
    return await asked(port) == wanted


async def test_not_ready_and_still_serving(start):
    """server.drain_delay: new connections are taken and served as ever, only `ready` says 503."""
    admin = free_port()
    daemon = start({"server.drain_delay": "10m", "server.admin_listen": f"127.0.0.1:{admin}", "server.drain_time": "20s"})
    bdt = await daemon.register("d1")
    device, viewer = await daemon.device("d1", bdt), await daemon.user()
    assert await asked(daemon.port) == await asked(admin) == 200
    daemon.process.send_signal(signal.SIGTERM)
    for port in (daemon.port, admin):
        await eventually(lambda: is_ready(port, 503))
        assert await asked(port, "/health") == 200
    later = await daemon.user()
    assert (await device.ask("heartbeat"))["type"] == "heartbeat_ack"
    assert (await later.ask("subscribe", {"devices": ["d1"]}))["type"] == "ok"
    status, body = await daemon.rest("POST", "/api/command", {"deviceId": "d1", "command": "x"})
    assert status == 202
    await device.expect("command")
    await viewer.nothing("reconnect", 0)
    # A second word ends the delay: now they are told to come back.
    daemon.process.send_signal(signal.SIGTERM)
    for c in (device, viewer, later):
        await c.expect("reconnect")
    codes = [(await c.closed())[0] for c in (device, viewer, later)]
    assert codes == [1012] * 3
    process, daemon.process = daemon.process, None
    assert await asyncio.get_running_loop().run_in_executor(None, process.wait, PATIENCE) == 0
    daemon.log.close()


async def test_until_the_last_moment(start):
    """Who asks during the drain is answered; whatever else comes then is refused at once, and nobody hangs."""
    admin = free_port()
    daemon = start({"server.admin_listen": f"127.0.0.1:{admin}", "server.drain_time": "30s", "server.drain_rate": 1}, workers=1)
    users = [await daemon.user() for _ in range(4)]		# one a second is sent away
    daemon.process.send_signal(signal.SIGTERM)
    await users[0].expect("reconnect")
    for port in (daemon.port, admin):
        assert await asked(port) == 503
        assert await asked(port, "/health") == 200
    assert await asked(admin, "/metrics") == 200
    assert await asked(daemon.port, "/api/device") == 503
    assert await asked(daemon.port, "/ws", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n") == 503
    ends = asyncio.gather(*(u.closed() for u in users))
    # From now on there is an answer, 503, or nobody there any more.
    seen = []
    while daemon.process.poll() is None:
        seen.append(await asked(daemon.port))
        await asyncio.sleep(0.02)
    first = seen.index(None) if None in seen else len(seen)
    assert set(seen[:first]) == {503} and set(seen[first:]) <= {None}, seen
    assert first >= 10
    assert [code for code, _ in await ends] == [1012] * 4
    assert daemon.process.returncode == 0
    daemon.process = None
    daemon.log.close()


async def test_those_who_only_ask_do_not_keep_it(start):
    """Load balancers ask without a pause, and one connection says nothing at all: it ends all the same."""
    daemon = start({"server.drain_time": "10m"})
    over = False

    async def ask():
        while not over:
            await asked(daemon.port)

    tasks = [asyncio.ensure_future(ask()) for _ in range(4)]
    silent = []
    daemon.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(OSError):
        silent.append(await asyncio.open_connection("127.0.0.1", daemon.port))
    process, daemon.process = daemon.process, None
    assert await asyncio.get_running_loop().run_in_executor(None, process.wait, PATIENCE) == 0
    over = True
    await asyncio.gather(*tasks)
    for _, writer in silent:
        writer.close()
    daemon.log.close()


async def test_another_binary_takes_who_waits(start):
    """USR2 with a delay: not ready on the admin listener, and nobody who comes meanwhile is turned away."""
    admin = free_port()
    daemon = start({"server.drain_delay": "500ms", "server.admin_listen": f"127.0.0.1:{admin}", "server.drain_time": "30s", "server.drain_rate": 1}, workers=1)
    users = [await daemon.user() for _ in range(3)]
    pids = set(daemon.workers().values())
    daemon.process.send_signal(signal.SIGUSR2)
    await eventually(lambda: is_ready(admin, 503))
    await users[0].expect("reconnect")
    assert await asked(admin) == 503		# … in the drain, too
    coming = asyncio.ensure_future(daemon.user())
    assert [code for code, _ in await asyncio.gather(*(u.closed() for u in users))] == [1012] * 3
    late = await coming
    assert (await late.ask("ping"))["type"] == "pong"
    assert pids.isdisjoint(daemon.workers().values())
    await eventually(lambda: is_ready(admin, 200))
