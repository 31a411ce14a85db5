"""Messages: the envelope, validation, limits, what devices and dashboards say (protocol section 3)."""

import asyncio
import json
import time

import pytest

from belay import eventually, run_device, token


async def raw_answer(c, text):
    await c.ws.send(text)
    return await c.recv()


@pytest.mark.parametrize("text, code, field", [
    ("", "invalid_json", None),
    ("{", "invalid_json", None),
    ('{"type":"ping",}', "invalid_json", None),
    ('{"type":"ping"} x', "invalid_json", None),
    ("[" * 40 + "]" * 40, "invalid_json", None),
    ("[]", "invalid_payload", None),
    ("{}", "invalid_payload", "type"),
    ('{"type":5}', "invalid_payload", "type"),
    ('{"type":"ping","payload":[]}', "invalid_payload", "payload"),
    ('{"type":"command","payload":{"command":"x"}}', "invalid_payload", "payload.deviceId"),
    ('{"type":"command","payload":{"deviceId":"a b","command":"x"}}', "invalid_payload", "payload.deviceId"),
    ('{"type":"command","payload":{"deviceId":"a","command":"x","timeoutMs":10}}', "invalid_payload", "payload.timeoutMs"),
    ('{"type":"cancel","payload":{"commandId":"1"}}', "invalid_payload", "payload.commandId"),
    ('{"type":"subscribe","payload":{"devices":"all"}}', "invalid_payload", "payload.devices"),
    ('{"type":"nonsense"}', "unknown_type", None),
    ('{"type":"heartbeat"}', "unknown_type", None),
])
async def test_bad_messages(belayd, text, code, field):
    c = await belayd.user()
    m = await raw_answer(c, text)
    assert m["type"] == "error" and m["payload"]["code"] == code, m
    if field:
        assert m["payload"]["field"] == field, m
    assert (await c.ask("ping"))["type"] == "pong"
    await c.close()


async def test_error_carries_re(belayd):
    c = await belayd.user()
    m = await c.ask("command", {"deviceId": "nowhere", "command": "x"})
    assert m["type"] == "error" and m["payload"]["code"] == "not_found"
    m = await c.ask("nonsense")
    assert m["payload"]["code"] == "unknown_type"
    await c.close()


async def test_too_many_invalid(belayd):
    c = await belayd.user()
    for _ in range(25):
        await c.ws.send("{")
    assert await c.closed() == (1008, "Too many invalid messages")


async def test_binary_and_too_big(belayd):
    c = await belayd.user()
    await c.ws.send(b"\0\1")
    assert await c.closed() == (1003, "Binary not accepted")
    c = await belayd.user()
    await c.ws.send('{"type":"ping","payload":{"x":"' + "y" * 70000 + '"}}')
    assert await c.closed() == (1009, "Message too big")


async def test_rate_limit(belayd):
    c = await belayd.user()
    for i in range(160):
        await c.send("ping", id=str(i))
    answers = [await c.recv() for _ in range(160)]
    limited = [m for m in answers if m["type"] == "error"]
    assert 40 <= len(limited) <= 60
    assert all(m["payload"]["code"] == "rate_limited" and m["payload"]["retryAfterMs"] > 0 and "re" in m for m in limited)
    await asyncio.sleep(0.5)
    assert (await c.ask("ping"))["type"] == "pong"
    await c.close()


async def test_abuse_closes(start):
    belayd = start({"limits.abuse_time": "1s"})
    c = await belayd.user()

    async def flood():
        while True:
            await c.send("ping")
            await asyncio.sleep(0.001)

    task = asyncio.ensure_future(flood())
    assert await c.closed() == (4029, "Rate limited")
    task.cancel()


async def test_device_messages_reach_viewers(belayd):
    bdt = await belayd.register("msg-1")
    owner, admin, stranger, foreign = [await belayd.user(*who) for who in
                                       (("u1", "t1"), ("boss", "t1", "admin"), ("u2", "t1"), ("u1", "t2"))]
    device = await belayd.device("msg-1", bdt)
    epoch = device.connected["payload"]["epoch"]
    assert (await device.ask("heartbeat", {"battery": 81}))["type"] == "heartbeat_ack"
    assert (await device.ask("status", {"door": "closed"}))["type"] == "ok"
    assert (await device.ask("event", {"event": "motion_detected", "data": {"zone": 2}}))["type"] == "ok"
    assert (await device.ask("event", {"event": "x_own"}))["type"] == "ok"
    bad = await device.ask("event", {"event": "device_connected"})
    assert bad["payload"]["code"] == "invalid_payload"
    await device.send("telemetry", {"data": {"t": 21.5}})
    for viewer in (owner, admin):
        for type, data in (("device_connected", None), ("device_status", {"door": "closed"}), ("device_event", {"zone": 2}),
                           ("device_event", {}), ("telemetry", {"t": 21.5})):
            m = await viewer.expect(type, where=lambda m: m["payload"].get("deviceId") == "msg-1")
            assert m["payload"]["epoch"] == epoch
            if data is not None:
                assert m["payload"]["data"] == data
            if type != "telemetry":
                assert m["cursor"]
    for other in (stranger, foreign):
        await other.nothing("device_status", 0.1)
        assert not other.kept
    status, body = await belayd.rest("GET", "/api/device/msg-1")
    assert body["device"]["state"] == {"door": "closed"}
    for c in (owner, admin, stranger, foreign, device):
        await c.close()


async def test_subscribe(belayd):
    for n in ("sub-1", "sub-2"):
        await belayd.register(n)
    bdt1, bdt2 = [await belayd.register(n) for n in ("sub-3", "sub-4")]
    d1, d2 = await belayd.device("sub-3", bdt1), await belayd.device("sub-4", bdt2)
    c, witness = await belayd.user(), await belayd.user()

    async def seen():
        await d1.ask("event", {"event": "x_a"})
        await d2.ask("event", {"event": "x_a"})
        await witness.expect("device_event", where=lambda m: m["payload"]["deviceId"] == "sub-4")
        await asyncio.sleep(0.1)        # the devices' gateway was told; this user's may be the other one
        await c.ask("ping")
        out = sorted(m["payload"]["deviceId"] for m in c.kept if m["type"] == "device_event")
        c.kept.clear()
        return out

    assert await seen() == ["sub-3", "sub-4"]
    assert (await c.ask("subscribe", {"devices": ["sub-3"]}))["payload"]["devices"] == ["sub-3"]
    assert await seen() == ["sub-3"]
    assert (await c.ask("subscribe", {"devices": ["sub-3", "sub-4"]}))["payload"]["devices"] == ["sub-3", "sub-4"]
    assert (await c.ask("unsubscribe", {"devices": ["sub-3"]}))["payload"]["devices"] == ["sub-4"]
    assert await seen() == ["sub-4"]
    assert (await c.ask("subscribe", {"devices": []}))["payload"]["devices"] == []
    assert await seen() == []
    assert (await c.ask("subscribe", {"devices": None}))["payload"]["devices"] is None
    assert await seen() == ["sub-3", "sub-4"]
    assert (await c.ask("unsubscribe", {"devices": ["sub-3"]}))["payload"]["devices"] is None
    assert await seen() == ["sub-4"]
    m = await c.ask("subscribe", {"devices": ["sub-4", "nowhere"]})
    assert m["type"] == "error" and m["payload"]["code"] == "not_found"
    assert await seen() == ["sub-4"]
    for x in (c, witness, d1, d2):
        await x.close()


async def test_slow_viewer_gets_conflated_telemetry(start):
    belayd = start({"limits.send_buffer": "16K", "limits.message_size": "8K", "limits.message_rate": 100000, "limits.message_burst": 100000})
    bdt = await belayd.register("tel-1")
    device = await belayd.device("tel-1", bdt)
    slow = await belayd.open("/ws", {"Authorization": f"Bearer {token()}"}, max_queue=1, read_limit=1024, write_limit=1024)
    filler = "x" * 2000
    last = 4000
    for i in range(last + 1):
        await device.send("telemetry", {"data": {"i": i, "filler": filler}})
    await device.ask("heartbeat")
    got, gaps = [], []
    while not got or got[-1] != last:
        m = await slow.recv(10)
        if m["type"] == "telemetry":
            got.append(m["payload"]["data"]["i"])
        elif m["type"] == "gap":
            gaps.append(m["payload"])
    assert got == sorted(got) and len(got) < last
    assert sum(g["dropped"] for g in gaps) + len(got) == last + 1
    assert all(g["since"] for g in gaps)
    await slow.close()
    await device.close()


async def test_slow_viewer_of_stored_events_is_closed(start):
    belayd = start({"limits.send_buffer": "16K", "limits.message_size": "8K", "limits.message_rate": 100000, "limits.message_burst": 100000})
    bdt = await belayd.register("slow-1")
    device = await belayd.device("slow-1", bdt)
    slow = await belayd.open("/ws", {"Authorization": f"Bearer {token()}"}, max_queue=1, read_limit=1024, write_limit=1024)
    for i in range(4000):
        await device.send("event", {"event": "x_a", "data": {"filler": "x" * 2000}})
    await device.ask("heartbeat")
    assert await eventually(lambda: belayd.metric("belay_slow_consumers_total")) == 1
    assert await slow.closed() == (4008, "Slow consumer")
    await device.close()


async def test_subscriptions_take_effect_in_the_order_of_asking(belayd):
    """Asked for in one breath, without waiting for an answer, they are answered and hold in that order."""
    one, two = [await belayd.device(name, await belayd.register(name)) for name in ("turn-1", "turn-2")]
    c = await belayd.user()
    for asked, last, seen in (
            ([("subscribe", ["turn-1"]), ("unsubscribe", ["turn-1"])], [], []),
            ([("subscribe", ["turn-1"]), ("subscribe", None)], None, ["turn-1", "turn-2"]),
            ([("subscribe", ["turn-1", "turn-2"]), ("subscribe", ["nowhere"]), ("unsubscribe", ["turn-1"])], ["turn-2"], ["turn-2"])):
        assert (await c.ask("subscribe", {"devices": None}))["payload"] == {"devices": None}
        for n, (type, devices) in enumerate(asked):
            await c.send(type, {"devices": devices}, str(n))
        answers = []
        while len(answers) < len(asked):
            answers += [m for m in [await c.recv()] if "re" in m]
        assert [m["re"] for m in answers] == [str(n) for n in range(len(asked))], answers
        assert answers[-1]["payload"]["devices"] == last, (asked, answers)
        for device in (one, two):
            await device.ask("event", {"event": "x_seen"})
        # What storage answers comes behind what it told before.
        await c.send("command", {"deviceId": "turn-1", "command": "x"})
        id = (await one.expect("command"))["payload"]["commandId"]
        await one.send("command_ack", {"commandId": id, "status": "executed"})
        await c.expect("command_status", where=lambda m: m["payload"]["status"] == "executed")
        heard = [m["payload"]["deviceId"] for m in c.kept if m["payload"].get("event") == "x_seen"]
        assert heard == seen, (asked, heard)
        c.kept.clear()
    for c in (one, two, c):
        await c.close()


async def test_a_device_learns_of_a_refusal_without_an_id(belayd):
    """A reply is owed to who gave an id; a refusal to everyone."""
    first, other = [await belayd.device(name, await belayd.register(name)) for name in ("quiet-1", "quiet-2")]
    status, body = await belayd.rest("POST", "/api/command", {"deviceId": "quiet-1", "command": "x"})
    assert status == 202
    command = (await first.expect("command"))["payload"]["commandId"]

    async def refused(device, type, payload):
        await device.send(type, payload)
        m = await device.expect("error")
        assert "re" not in m, m
        return m["payload"]["code"], m["payload"]["field"]

    assert await refused(other, "command_ack", {"commandId": command, "status": "executed"}) == ("not_found", "payload.commandId")
    await first.send("command_ack", {"commandId": command, "status": "executed"})
    assert await refused(first, "command_ack", {"commandId": command, "status": "failed"}) == ("already_final", "payload.commandId")
    visit = "01890000-0000-7000-8000-00000000beef"
    await first.send("visitor", {"visitorId": visit})
    await first.ask("event", {"event": "x_after"})
    assert await refused(other, "visitor", {"visitorId": visit}) == ("conflict", "payload.visitorId")
    assert first.kept == other.kept == [], "what was done is not answered without an id"
    await first.close()
    await other.close()


async def test_a_command_is_answered_at_every_change(belayd):
    """Each change of what was asked for under an id carries that id to who asked; to others it comes without."""
    bdt = await belayd.register("change-1")
    device = await belayd.device("change-1", bdt)
    user, other = await belayd.user(), await belayd.user()
    await user.ask("subscribe", {"devices": []})

    async def told(id, status):
        mine = await user.expect("command_status")
        assert (mine.get("re"), mine["payload"]["status"]) == (id, status), mine
        theirs = await other.expect("command_status")
        assert "re" not in theirs and theirs["payload"] == mine["payload"] and theirs.get("cursor") == mine.get("cursor"), theirs
        return mine["payload"]["commandId"]

    order = {"deviceId": "change-1", "command": "x", "timeoutMs": 1000}
    for id in ("a", "", None):
        await user.send("command", order, id)
        command = await told(id, "sent")
        for status in ("accepted", "executed"):
            await device.send("command_ack", {"commandId": command, "status": status})
            await told(id, status)
    await user.send("command", order, "b")
    command = await told("b", "sent")
    await told("b", "timeout")
    await device.send("command_ack", {"commandId": command, "status": "failed"})
    await told("b", "failed")
    # The same key from another connection, as after a reconnect: both hear, each under its own id.
    keyed = {**order, "timeoutMs": 60000, "idempotencyKey": "once"}
    await user.send("command", keyed, "c")
    command = await told("c", "sent")
    assert (await other.ask("command", keyed))["payload"]["commandId"] == command
    await device.send("command_ack", {"commandId": command, "status": "executed"})
    assert (await user.expect("command_status"))["re"] == "c"
    assert (await other.expect("command_status"))["re"] not in (None, "c")
    # Queued; and a cancel is answered once, under its own id.
    await device.close()
    await other.expect("device_disconnected")
    waiting = {**order, "queueMs": 1000}
    await user.send("command", waiting, "d")
    await told("d", "queued")
    await told("d", "expired")
    await user.send("command", {**waiting, "queueMs": 60000}, "e")
    command = await told("e", "queued")
    await user.send("cancel", {"commandId": command}, "f")
    await told("f", "cancelled")
    await user.nothing("command_status")
    await user.close()
    await other.close()


async def test_who_decides_gets_the_cursor_too(belayd):
    """The message of a stored event carries its cursor, whether it is told or answered."""
    device = await belayd.device("cursor-1", await belayd.register("cursor-1"))
    user, other = await belayd.user(), await belayd.user()
    await device.ask("visitor", {})
    visit = (await user.expect("new_visitor"))["payload"]["visitorId"]
    answer = await user.ask("visitor_decide", {"visitorId": visit, "decision": "deny"})
    assert answer["type"] == "visitor_decided" and answer["cursor"] == (await other.expect("visitor_decided"))["cursor"]
    again = await belayd.open(f"/ws?token={token()}&resume={answer['cursor']}")
    assert (await again.recv()) == {"type": "resumed", "payload": {"replayed": 0}}
    for c in (device, user, other, again):
        await c.close()
