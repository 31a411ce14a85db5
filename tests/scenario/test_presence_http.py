"""HTTP connections: a request followed by FIN is answered, and keep-alive says for how long; pings are signs of life."""

import asyncio
import json
import signal
from datetime import datetime

import pytest

import belay
from belay import eventually, token
from conftest import check_log


@pytest.fixture(scope="module")
def belayd(tmp_path_factory):
    d = belay.Belayd(tmp_path_factory.mktemp("belayd")).start()
    yield d
    try:
        d.stop(signal.SIGQUIT)
    finally:
        check_log(d)


def request(path, method="GET", body=None, more=""):
    text = json.dumps(body) if body is not None else ""
    return (f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\nContent-Length: {len(text)}\r\n{more}\r\n{text}").encode()


async def answers(belayd, data):
    """All that comes in answer to this and a FIN."""
    reader, writer = await asyncio.open_connection("127.0.0.1", belayd.port)
    writer.write(data)
    writer.write_eof()
    got = await asyncio.wait_for(reader.read(), belay.PATIENCE)
    writer.close()
    return [int(part.split(b" ", 1)[0]) for part in got.split(b"HTTP/1.1 ")[1:]]


async def test_a_request_followed_by_fin_is_answered(belayd):
    bdt = await belayd.register("d1")
    assert await answers(belayd, request("/health")) == [200]
    assert await answers(belayd, request("/api/device/d1")) == [200]			# a reader is asked
    assert await answers(belayd, request("/health/ready")) == [200]			# storage is
    assert await answers(belayd, request("/api/device/register", "POST", {"deviceId": "d2", "name": "n"})) == [201]
    assert await answers(belayd, request("/api/device/d1") * 3 + request("/nothing")) == [200, 200, 200, 404]
    # Not all of it: nothing to be answered.
    assert await answers(belayd, request("/api/device/d1")[:-3]) == []
    assert await answers(belayd, request("/health") + b"GET /he") == [200]
    # The end of a command is waited for.
    device = await belayd.device("d1", bdt)
    asked = asyncio.ensure_future(answers(belayd, request("/api/command?wait=1", "POST", {"deviceId": "d1", "command": "x"})))
    id = (await device.expect("command"))["payload"]["commandId"]
    await device.send("command_ack", {"commandId": id, "status": "executed"})
    assert await asked == [200]
    await device.close()
    await eventually(lambda: none_open(belayd))


async def none_open(belayd):
    return await belayd.metric("belay_connections_open") <= 1


async def test_keep_alive_says_its_time(belayd):
    _, headers, _ = await belayd.rest("GET", "/health", raw=True)
    assert headers["Keep-Alive"] == "timeout=75"
    _, headers, _ = await belayd.rest("GET", "/health", raw=True, headers={"Connection": "close"})
    assert "Keep-Alive" not in headers


def moment(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@pytest.mark.parametrize("sign", ["ping", "pong"])
async def test_a_control_frame_is_a_sign_of_life(belayd, sign):
    """lastSeen and onlyIf's seenWithinMs go by it."""
    name = f"life-{sign}"
    bdt = await belayd.register(name)
    device = await belayd.device(name, bdt)

    async def seen():
        _, body = await belayd.rest("GET", f"/api/device/{name}")
        return moment(body["device"]["presence"]["lastSeen"])

    before = await seen()
    await asyncio.sleep(0.5)		# it has to be silent for longer than two clocks may differ
    assert (await seen() - before).total_seconds() < 0.1
    await (device.ws.ping() if sign == "ping" else device.ws.pong())
    await eventually(lambda: later(seen, before))
    await (device.ws.ping() if sign == "ping" else device.ws.pong())
    status, body = await belayd.rest("POST", "/api/command", {"deviceId": name, "command": "x", "onlyIf": {"seenWithinMs": 60000}})
    assert status == 202 and body["command"]["status"] == "sent"
    await device.close()


async def later(seen, before):
    return (await seen() - before).total_seconds() > 0.4
