"""Commands to devices that answer without end: attempts, traces and what is stored of them are bounded."""

from belay import eventually


async def test_a_device_that_never_gets_it(belayd):
    """It answers each attempt with "unknown", as fast as it may: five attempts, then the command has failed."""
    device = await belayd.device("never", await belayd.register("never"))
    status, body = await belayd.rest("POST", "/api/command", {"deviceId": "never", "command": "x", "timeoutMs": 300000})
    assert status == 202, body
    id = body["command"]["commandId"]
    for attempt in range(1, 6):
        m = await device.expect("command")
        assert m["payload"]["commandId"] == id and m["payload"]["attempt"] == attempt
        await device.send("command_ack", {"commandId": id, "status": "unknown"})

    async def command():
        return (await belayd.rest("GET", f"/api/command/{id}"))[1]["command"]

    async def failed():
        c = await command()
        return c if c["status"] != "sent" else None

    c = await eventually(failed)
    assert c["status"] == "failed" and c["error"]["code"] == "device_error" and c["attempt"] == 5 and not c["safeToRetry"]
    assert [t["step"] for t in c["trace"]] == ["stored"] + ["sent"] * 5 + ["failed"]
    # Whatever it says now changes nothing.
    for _ in range(20):
        m = await device.ask("command_ack", {"commandId": id, "status": "unknown"})
        assert m["type"] == "error" and m["payload"]["code"] == "already_final"
    await device.nothing("command")
    assert await command() == c
    _, body = await belayd.rest("GET", "/api/device/never/events?type=command_sent&limit=500")
    assert len(body["events"]) == 5
    await device.close()
