"""One reader judges every message: what is taken is stored, compared and sent on as it was taken."""

import pytest

from belay import Stopwatch, eventually, run_device, token


def nested(depth, inner="1"):
    return '{"v":' * depth + inner + "}" * depth


async def has_state(belayd, name):
    status, _, body = await belayd.rest("GET", f"/api/device/{name}", raw=True)
    return status == 200 and b'"state":{"' in body


@pytest.mark.parametrize("state, wanted", [
    ('{"door":"closed","odd":1e999}', '{"status.door":"closed"}'),
    ('{"door":"closed","odd":123456789012345678901234567890}', '{"status.door":"closed"}'),
    ('{"door":"open","door":"closed"}', '{"status.door":"closed"}'),
    ('{"n":9007199254740993}', '{"status.n":9007199254740993.0}'),
    ('{"n":1e999}', '{"status.n":1e999}'),
    ('{"a.b":{"c":{"y":[2],"x":1.0}}}', '{"status.a.b.c":{"x":1,"y":[2e0]},"seenWithinMs":600000}'),
    ('{"name":"\\u0041"}', '{"status.name":"A"}'),
])
async def test_condition_by_the_same_reader(belayd, state, wanted):
    """What a second library could not read made a condition false that was met."""
    name = f"d{abs(hash(state + wanted)) % 10 ** 9}"
    d = await belayd.device(name, await belayd.register(name))
    await d.ws.send('{"type":"status","id":"s","payload":%s}' % state)
    user = await belayd.user()
    await eventually(lambda: has_state(belayd, name))
    await run_device(d)
    await user.ws.send('{"type":"command","id":"c","payload":{"deviceId":"%s","command":"go","onlyIf":%s}}' % (name, wanted))
    m = await user.expect("command_status", where=lambda m: m["payload"]["status"] in ("executed", "failed"))
    assert m["payload"]["status"] == "executed", m
    await user.close()
    await d.close()


async def test_same_parameters_by_the_same_reader(belayd):
    """The same key and the same value, written in two ways, is the first command again; another value is not."""
    name = "same"
    await belayd.register(name)
    ids = []
    for params in ('{"a":1e999,"b":[1]}', '{ "b" : [ 1.0 ], "a" : 1e999 }'):
        status, _, body = await belayd.rest("POST", "/api/command", raw=True, data=(
            '{"deviceId":"same","command":"go","queueMs":60000,"idempotencyKey":"k","params":%s}' % params),
            headers={"Content-Type": "application/json"})
        assert status == 202, body
        ids.append(body.split(b'"commandId":"')[1][:36])
    assert ids[0] == ids[1]
    status, _, body = await belayd.rest("POST", "/api/command", raw=True, data=(
        '{"deviceId":"same","command":"go","queueMs":60000,"idempotencyKey":"k","params":{"a":1e998,"b":[1]}}'),
        headers={"Content-Type": "application/json"})
    assert status == 409, body


async def test_conditions_are_bounded(belayd):
    user = await belayd.user()
    payload = {"deviceId": "x", "command": "go", "onlyIf": {f"status.s{i}": i for i in range(33)}}
    answer = await user.ask("command", payload)
    assert answer["payload"]["field"] == "payload.onlyIf", answer
    await user.close()


@pytest.mark.parametrize("depth", [6, 40])
async def test_depth_holds_everywhere(start, depth):
    """limits.json_depth for messages, bodies, and each element of an array of telemetry; what is taken goes all the way."""
    d = start({"limits.json_depth": depth}, workers=1)
    device = await d.device("d1", await d.register("d1"))
    user = await d.user()
    for levels, good in ((depth - 1, True), (depth, False)):	# and the message around the payload
        await device.ws.send('{"type":"status","id":"a","payload":%s}' % nested(levels))
        await device.ws.send('{"type":"ping","id":"b"}')
        said = []
        while (m := await device.recv()).get("re") != "b":
            said.append(m["payload"].get("code"))
        assert ("invalid_json" in said) != good, (levels, said)

    async def post(path, body):
        return (await d.rest("POST", path, raw=True, data=body, headers={"Content-Type": "application/json"}))[0]

    for levels, good in ((depth - 1, True), (depth, False)):
        body = '{"deviceId":"d1","data":%s}' % nested(levels)
        for text in (body, f"[{body}]", f"[{body},{body}]"):
            assert await post("/api/telemetry", text) == (202 if good else 400), (levels, text)
        body = '{"deviceId":"d1","command":"go","queueMs":60000,"params":%s}' % nested(levels)
        assert await post("/api/command", body) == (202 if good else 400)
        body = '{"name":"n","metadata":%s}' % nested(levels)
        assert await post("/api/device/register", body) == (201 if good else 400)
    got = await user.expect("telemetry")
    assert got["payload"]["deviceId"] == "d1"
    await user.close()
    await device.close()


async def test_silence_instead_of_a_token(start):
    """limits.handshake_time is the time for the first message, too."""
    d = start({"limits.handshake_time": "1s"}, workers=1)
    watch = Stopwatch(d)
    c = await d.raw("/ws?auth=message")
    assert await c.closed() == (1008, "Missing token")
    assert watch.stop()[1] < 9
    c = await d.raw("/ws?auth=message")
    await c.send("auth", {"token": token()})
    await c.expect("connected")
    await c.close()
