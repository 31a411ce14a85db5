"""Devices whose connection ended with a process of ours: suspect for server.return_time, and only then offline."""

import asyncio
import os
import signal
from datetime import datetime, timedelta

import pytest

import belay
from belay import PATIENCE, eventually
from conftest import check_log
from fleet import taken_by

LONG = "10m"		# longer than any test: nobody is given up


@pytest.fixture
def start(tmp_path):
    """start(settings…): a belayd whose store outlives it, stopped in the end."""
    made = []

    def go(settings=None, **kwargs):
        daemon = belay.Belayd(tmp_path / f"belayd{len(made)}", {"server.return_time": LONG, "server.drain_time": "20s", **(settings or {})}, **kwargs)
        made.append(daemon)
        return daemon.start()

    yield go
    for daemon in made:
        try:
            if daemon.process is not None:
                daemon.stop(signal.SIGQUIT)
        finally:
            check_log(daemon)


async def presence(daemon, device="d1"):
    status, body = await daemon.rest("GET", f"/api/device/{device}")
    assert status == 200, body
    return body["device"]["presence"]


def moment(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


async def told(daemon, device="d1"):
    """What was stored of its connections, the oldest first: [(event, reason)]."""
    status, body = await daemon.rest("GET", f"/api/device/{device}/events?limit=500")
    assert status == 200, body
    return [(e["event"], e["data"].get("reason")) for e in reversed(body["events"])
            if e["event"] in ("device_connected", "device_disconnected")]


async def stopped(daemon, sig=signal.SIGTERM):
    """It ends, while its clients answer."""
    process, daemon.process = daemon.process, None
    process.send_signal(sig)
    await asyncio.get_running_loop().run_in_executor(None, process.wait, PATIENCE)
    daemon.log.close()
    return process.returncode


async def left(*clients):
    """Each with the code that it was closed with."""
    return [(await c.closed())[0] for c in clients]


async def counted(daemon, online, offline):
    for path in ("/api/device/stats", "/api/health/devices"):
        status, body = await daemon.rest("GET", path)
        assert status == 200 and (body["online"], body["offline"]) == (online, offline), (path, body)


async def names(daemon, status):
    code, body = await daemon.rest("GET", f"/api/device?status={status}")
    assert code == 200, body
    return [d["deviceId"] for d in body["devices"]]


async def test_a_restart_is_not_their_being_offline(start):
    daemon = start()
    tokens = {n: await daemon.register(n) for n in ("d1", "d2", "d3")}
    devices = {n: await daemon.device(n, t) for n, t in tokens.items()}
    viewer = await daemon.user()
    await devices["d1"].ask("heartbeat")
    seen = (await presence(daemon))["lastSeen"]
    await devices["d3"].close()
    await viewer.expect("device_disconnected", where=lambda m: m["payload"]["deviceId"] == "d3")
    ends = asyncio.gather(left(devices["d1"], devices["d2"]), left(viewer))
    assert await stopped(daemon) == 0
    assert (await ends)[0] == [1012, 1012]
    assert not [m for m in viewer.kept if m["type"] == "device_disconnected"]

    daemon.start()
    p = await presence(daemon)
    assert (p["status"], p["transport"], p["epoch"], p["reason"]) == ("suspect", "ws", 1, None)
    assert moment(p["lastSeen"]) >= moment(seen) - timedelta(milliseconds=20)		# two processes read two clocks
    assert (await presence(daemon, "d3"))["status"] == "offline"
    assert await names(daemon, "suspect") == ["d1", "d2"] and await names(daemon, "offline") == ["d3"]
    await counted(daemon, 2, 1)
    status, body = await daemon.rest("POST", "/api/command", {"deviceId": "d1", "command": "x"})
    assert (status, body["error"]["code"]) == (409, "device_offline")
    # d1 comes back, and takes the place of its old connection.
    viewer = await daemon.user()
    back = await daemon.device("d1", tokens["d1"])
    assert back.connected["payload"]["epoch"] == 2
    assert (await presence(daemon))["status"] == "online"
    assert await told(daemon) == [("device_connected", None), ("device_connected", None)]
    assert (await viewer.expect("device_connected"))["payload"]["epoch"] == 2
    await viewer.nothing("device_disconnected", 0)
    # d2 does not: once its time is over it is offline, told once.
    (daemon.folder / "belayd.conf").write_text('server: { return_time = "0"; };\n')
    daemon.settings.pop("server.return_time")
    ends = asyncio.gather(left(back), left(viewer))
    assert await stopped(daemon) == 0
    await ends
    daemon.start()
    await eventually(lambda: offline(daemon, "d2"))
    p = await presence(daemon, "d2")
    assert (p["transport"], p["epoch"], p["reason"]) == (None, 1, "restart")
    assert await told(daemon, "d2") == [("device_connected", None), ("device_disconnected", "restart")]
    await counted(daemon, 0, 3)


async def offline(daemon, device):
    return (await presence(daemon, device))["status"] == "offline"


async def test_one_that_leaves_while_we_stop(start):
    """A device that obeys `reconnect` and leaves by itself is expected back, too; one whose credentials go is not."""
    daemon = start({"server.drain_rate": 1}, workers=1)
    tokens = {n: await daemon.register(n) for n in ("d1", "d2")}
    d1, d2 = [await daemon.device(n, t) for n, t in tokens.items()]
    viewers = [await daemon.user() for _ in range(3)]		# one a second is sent away
    daemon.process.send_signal(signal.SIGTERM)
    for c in (d1, d2):
        await c.expect("reconnect")
    await d1.close()
    d2.ws.transport.abort()
    ends = asyncio.gather(left(*viewers))
    process, daemon.process = daemon.process, None
    assert await asyncio.get_running_loop().run_in_executor(None, process.wait, PATIENCE) == 0
    await ends
    daemon.log.close()
    daemon.start()
    for n in tokens:
        assert (await presence(daemon, n))["status"] == "suspect"
        assert await told(daemon, n) == [("device_connected", None)]


async def test_another_binary(start):
    """USR2: the same."""
    daemon = start()
    bdt = await daemon.register("d1")
    device, viewer = await daemon.device("d1", bdt), await daemon.user()
    pids = set(daemon.workers().values())
    daemon.process.send_signal(signal.SIGUSR2)
    assert await left(device, viewer) == [1012, 1012]
    back = await daemon.device("d1", bdt)		# waits in the listener's queue until the next one takes it
    assert back.connected["payload"]["epoch"] == 2
    assert pids.isdisjoint(daemon.workers().values())
    assert await told(daemon) == [("device_connected", None)] * 2
    ends = asyncio.gather(left(back))
    assert await stopped(daemon) == 0
    await ends


async def test_a_lost_gateway(start):
    daemon = start()
    tokens = {n: await daemon.register(n) for n in ("d1", "d2")}
    devices = {}
    for n, gateway in (("d1", "gateway 1"), ("d2", "gateway 2")):
        with taken_by(daemon, gateway):
            devices[n] = await daemon.device(n, tokens[n])
    os.kill(daemon.workers()["gateway 1"], signal.SIGKILL)
    assert await left(devices["d1"]) == [1006]
    await eventually(lambda: is_suspect(daemon, "d1"))
    assert await names(daemon, "suspect") == ["d1"] and await names(daemon, "online") == ["d2"]
    await counted(daemon, 2, 0)
    # What waits for it is sent when it is back; what may not wait has nowhere to go.
    status, body = await daemon.rest("POST", "/api/command", {"deviceId": "d1", "command": "x"})
    assert (status, body["error"]["code"]) == (409, "device_offline")
    status, body = await daemon.rest("POST", "/api/command", {"deviceId": "d1", "command": "y", "queueMs": 60000})
    assert (status, body["command"]["status"]) == (202, "queued")
    back = await daemon.device("d1", tokens["d1"])
    assert (await back.expect("command"))["payload"]["command"] == "y"
    assert await told(daemon) == [("device_connected", None)] * 2
    assert (await presence(daemon))["status"] == "online"


async def is_suspect(daemon, device):
    return (await presence(daemon, device))["status"] == "suspect"


async def test_a_gateway_that_is_lost_again_and_again(start):
    """The time of the first loss counts, and its end is told once."""
    daemon = start({"server.return_time": "2s"})
    bdt = await daemon.register("d1")
    name = "gateway 1"
    with taken_by(daemon, name):
        await daemon.device("d1", bdt)
    pid = daemon.workers()[name]
    while not await offline(daemon, "d1"):
        now = daemon.workers().get(name)
        if now is not None and now == pid:
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda: daemon.workers().get(name) not in (None, pid))
            pid = daemon.workers()[name]
        await asyncio.sleep(0.1)
    assert await told(daemon) == [("device_connected", None), ("device_disconnected", "worker_lost")]


async def test_a_lost_instance(start):
    """kill -9 of the master: its processes end by themselves, and the devices are suspect after the next start."""
    daemon = start()
    bdt = await daemon.register("d1")
    device = await daemon.device("d1", bdt)
    workers = daemon.workers()
    daemon.process.kill()
    daemon.process.wait()
    ends = asyncio.gather(left(device))
    await eventually(lambda: not any(os.path.exists(f"/proc/{p}") for p in workers.values()))
    await ends
    daemon.log.close()
    daemon.start()
    p = await presence(daemon)
    assert (p["status"], p["epoch"]) == ("suspect", 1)
    assert await told(daemon) == [("device_connected", None)]
    back = await daemon.device("d1", bdt)
    assert back.connected["payload"]["epoch"] == 2
    assert await told(daemon) == [("device_connected", None)] * 2


async def test_a_killed_master_leaves_nothing_in_the_way(start, tmp_path):
    """Its pid file and its unix socket are there still, and its processes for a moment: the next one starts at once."""
    path = tmp_path / "socket"
    daemon = start()
    daemon.stop(signal.SIGQUIT)
    daemon.settings["server.listen"] += f",unix:{path}"
    for _ in range(3):
        daemon.start()
        daemon.process.kill()
        daemon.process.wait()
        daemon.log.close()
        assert path.exists()
    daemon.start()
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"200"
    writer.close()
    daemon.stop(signal.SIGQUIT)
    assert not path.exists()


async def test_return_time_is_taken_up_by_a_reload(start):
    daemon = start()
    daemon.stop(signal.SIGQUIT)
    del daemon.settings["server.return_time"]
    conf = daemon.folder / "belayd.conf"
    conf.write_text('server: { return_time = "10m"; };\n')
    daemon.start()
    bdt = await daemon.register("d1")
    with taken_by(daemon, "gateway 1"):
        await daemon.device("d1", bdt)
    os.kill(daemon.workers()["gateway 1"], signal.SIGKILL)
    await eventually(lambda: is_suspect(daemon, "d1"))
    conf.write_text('server: { return_time = "0"; };\n')
    daemon.process.send_signal(signal.SIGHUP)
    await eventually(lambda: offline(daemon, "d1"))
    assert await told(daemon) == [("device_connected", None), ("device_disconnected", "worker_lost")]
