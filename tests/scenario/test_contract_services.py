"""Messages of users' own types, which services of their tenant get."""

import asyncio
import signal
import subprocess

import pytest

from belay import PATIENCE, eventually, token

SETTINGS = {"server.user_types": "x_*,chat,chat.*", "server.workers": 3}


async def service(belayd, name="svc", tenant="t1", **kwargs):
    return await belayd.user(name, tenant, "service", **kwargs)


async def hand(user, kind, payload, services):
    """So many get it; a gateway that stands still for 2 s on a busy machine is not counted, so it is said again then."""
    async def done():
        answer = await user.ask(kind, payload)
        assert answer["type"] == "ok", answer
        return answer["payload"] == {"services": services}
    await eventually(done)


async def test_services_of_the_tenant_get_it_and_nobody_else(belayd):
    services = [await service(belayd, f"svc-{n}") for n in range(6)]
    key = {"Authorization": f"Bearer {belayd.service_key}"}
    services.append(await belayd.open("/ws?tenantId=t1", key))
    others = [await service(belayd, tenant="t2"), await belayd.open("/ws?tenantId=t2", key), await belayd.user("u1"), await belayd.user("u2"),
              await belayd.user("boss", role="admin")]
    user = await belayd.user("u1")
    for kind, payload in (("x_hello", {"a": [1, None, "\u00e9"]}), ("chat", {}), ("chat.room:1", {"text": "\"\\"})):
        await hand(user, kind, payload, 7)
        for s in services:
            told = await s.expect("user_message", where=lambda m, kind=kind: m["payload"]["type"] == kind)
            assert told["payload"] == {"userId": "u1", "connectionId": user.connected["payload"]["connectionId"], "type": kind,
                                       "payload": payload}
    await user.ws.send('{"type":"x_neither"}')		# neither id nor payload
    told = await services[0].expect("user_message", where=lambda m: m["payload"]["type"] == "x_neither")
    assert told["payload"]["payload"] == {}
    for c in others:
        await c.ask("ping")
        assert not [m for m in c.kept if m["type"] == "user_message"]
    for c in [*others, *services, user]:
        await c.close()


async def test_who_does_not_read_is_not_closed_for_it(start):
    """It does not get what comes meanwhile, and is not counted."""
    belayd = start({"limits.send_buffer": "64K", "limits.message_rate": 100000, "limits.message_burst": 100000})
    svc, user = await service(belayd), await belayd.user("u1")
    payload = {"text": "a" * 60000}
    sent = 0
    while (await user.ask("x_much", payload))["payload"] == {"services": 1}:
        sent += 1
        assert sent < 2000		# 120 MB: more than any socket holds
    reader = asyncio.ensure_future(svc.ask("ping"))
    assert (await asyncio.wait_for(reader, PATIENCE))["type"] == "pong"
    assert await belayd.metric("belay_slow_consumers_total") == 0
    await hand(user, "x_again", {}, 1)
    await svc.close()
    await user.close()


async def test_nobody_is_there(belayd):
    user = await belayd.user("u1", "empty")
    assert (await user.ask("x_hello", {}))["payload"] == {"services": 0}


@pytest.mark.parametrize("kind", ["y_hello", "x", "chats", "X_hello", "x_" + "a" * 63, "x_ä", "user_message", "telemetry", "connected", "ok"])
async def test_other_types(belayd, kind):
    """As unknown as they were, those that the protocol has for others too."""
    user = await belayd.user("u1")
    answer = await user.ask(kind, {"data": {}})
    assert (answer["type"], answer["payload"]["code"], answer["payload"]["field"]) == ("error", "unknown_type", "type")


async def test_no_pattern_takes_the_types_of_the_protocol(start):
    belayd = start({"server.user_types": "*"})
    svc, user = await service(belayd), await belayd.user("u1")
    for kind in ("heartbeat", "status", "device_status", "user_message", "visitor", "gap"):
        assert (await user.ask(kind, {}))["payload"]["code"] == "unknown_type"
    await hand(user, "anything", {}, 1)
    assert (await svc.expect("user_message"))["payload"]["type"] == "anything"
    await svc.close()
    await user.close()


@pytest.mark.parametrize("payload", ["[]", "7", "\"a\""])
async def test_payload_is_an_object(belayd, payload):
    user = await belayd.user("u1")
    await user.ws.send('{"type":"x_hello","id":"1","payload":%s}' % payload)
    answer = await user.recv()
    assert (answer["re"], answer["payload"]["code"], answer["payload"]["field"]) == ("1", "invalid_payload", "payload")


async def test_devices_have_none(belayd):
    device = await belayd.device("d1", await belayd.register("d1"))
    assert (await device.ask("x_hello", {}))["payload"]["code"] == "unknown_type"


async def test_back_ends_can_not_pretend(belayd):
    status, answer = await belayd.rest("POST", "/v1/websocket/broadcast", {"type": "user_message", "payload": {}}, token("b", role="admin"))
    assert (status, answer["error"]["field"]) == (422, "type")


async def test_by_a_reload(start, tmp_path):
    conf = tmp_path / "types.conf"
    conf.write_text("server: { user_types = []; };\n")
    belayd = start(args=["-c", str(conf)])
    user = await belayd.user("u1")
    assert (await user.ask("x_hello", {}))["payload"]["code"] == "unknown_type"
    before = await belayd.metric("belay_reloads_total")
    conf.write_text('server: { user_types = ["x_hello"]; };\n')
    belayd.process.send_signal(signal.SIGHUP)

    async def reloaded():
        return await belayd.metric("belay_reloads_total") >= before + len(belayd.workers())
    await eventually(reloaded)
    assert (await user.ask("x_hello", {}))["payload"] == {"services": 0}
    assert (await user.ask("x_other", {}))["payload"]["code"] == "unknown_type"
    await user.close()


@pytest.mark.parametrize("value", ["X_*", "x*y", "x y", "_x", "1*", "x_" + "a" * 63 + "*", "**"])
def test_bad_patterns(belayd, value):
    done = subprocess.run([*belayd.command("-t"), "-o", f"server.user_types={value}"], capture_output=True, text=True)
    assert done.returncode == 1 and "server.user_types" in done.stderr + done.stdout
