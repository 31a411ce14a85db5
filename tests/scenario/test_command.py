"""The way of a command: asked for, stored, sent, acknowledged, accounted for."""

import asyncio

import pytest

from belay import eventually, run_device, token


async def test_command_by_websocket_end_to_end(belayd):
    bdt = await belayd.register("lock-1")
    device = await belayd.device("lock-1", bdt)
    assert device.connected["payload"]["deviceId"] == "lock-1"
    assert device.connected["payload"]["epoch"] >= 1
    user = await belayd.user()
    first = await user.ask("command", {"deviceId": "lock-1", "command": "unlock_door", "params": {"door": 1}})
    assert first["type"] == "command_status", first
    assert first["payload"]["status"] == "sent"
    assert first["payload"]["outcome"] == "unconfirmed"
    command = await device.expect("command")
    assert command["payload"]["command"] == "unlock_door"
    assert command["payload"]["params"] == {"door": 1}
    assert command["payload"]["attempt"] == 1
    await device.send("command_ack", {"commandId": command["payload"]["commandId"], "status": "accepted"})
    accepted = await user.expect("command_status")
    assert accepted["payload"]["status"] == "accepted"
    answer = await device.ask("command_ack", {"commandId": command["payload"]["commandId"], "status": "executed", "result": {"a": [1]}})
    assert answer["type"] == "ok", answer
    last = (await user.expect("command_status"))["payload"]
    assert last["status"] == "executed" and last["outcome"] == "confirmed" and last["result"] == {"a": [1]}
    assert not last["safeToRetry"] and not last["late"]
    assert [t["step"] for t in last["trace"]][:2] == ["stored", "sent"]
    status, body = await belayd.rest("GET", f"/api/command/{last['commandId']}")
    assert status == 200 and body["command"] == last
    await device.close()
    await user.close()


async def test_rest_wait(belayd):
    bdt = await belayd.register("lock-2")
    device = await belayd.device("lock-2", bdt)
    done = await run_device(device)
    status, body = await belayd.rest("POST", "/api/command?wait=1", {"deviceId": "lock-2", "command": "ring"})
    assert status == 200, body
    assert body["command"]["status"] == "executed" and body["command"]["commandId"] == done[0]
    status, body = await belayd.rest("POST", "/api/command/open", {"deviceId": "lock-2"})
    assert status == 202 and body["command"]["command"] == "unlock_door"
    await eventually(lambda: len(done) == 2)
    await device.close()


async def test_offline_and_queued(belayd):
    bdt = await belayd.register("lock-3")
    status, body = await belayd.rest("POST", "/api/command", {"deviceId": "lock-3", "command": "ring"})
    assert status == 409 and body["error"]["code"] == "device_offline", body
    ids = []
    for i in range(20):
        status, body = await belayd.rest("POST", "/api/command", {"deviceId": "lock-3", "command": f"c{i}", "queueMs": 60000})
        assert status == 202 and body["command"]["status"] == "queued" and body["command"]["outcome"] == "not_sent", body
        ids.append(body["command"]["commandId"])
    device = await belayd.device("lock-3", bdt)
    done = await run_device(device)
    await eventually(lambda: len(done) == 20)
    assert done == ids
    await device.close()
