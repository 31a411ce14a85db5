"""/v1/websocket: what back ends do with the connections of users, over two gateways (protocol section 6)."""

import re
from pathlib import Path

import pytest

from belay import eventually, token
from fleet import stopped, taken_by

TOP = Path(__file__).resolve().parents[2]
ADMIN = token("boss", role="admin")
SERVICE = token("backend", role="service")


@pytest.fixture(scope="module")
def belayd(tmp_path_factory):
    """Each gateway with a socket of its own, among which the kernel distributes connections."""
    import belay
    import conftest
    daemon = belay.Belayd(tmp_path_factory.mktemp("belayd"), {"server.accept": "reuseport"}, workers=2).start()
    yield daemon
    assert daemon.stop() == 0
    conftest.check_log(daemon)


async def connect(belayd, **users):
    """{name: [clients]}; connections are opened until both gateways hold some of them."""
    out = {name: [await belayd.user(name) for _ in range(n)] for name, n in users.items()}
    return out


async def close(people):
    for clients in people.values():
        for c in clients:
            await c.close()


async def test_broadcast(belayd):
    people = await connect(belayd, ann=6, bob=4, eve=1)
    foreign = await belayd.user("ann", "t2")
    for bearer in (ADMIN, SERVICE):
        status, body = await belayd.rest("POST", "/v1/websocket/broadcast", {"type": "news", "payload": {"n": [1, "ü"]}}, bearer)
        assert status == 200 and body == {"users": 3, "connections": 11}
        for clients in people.values():
            for c in clients:
                assert await c.expect("news") == {"type": "news", "payload": {"n": [1, "ü"]}}
    status, body = await belayd.rest("POST", "/v1/websocket/broadcast",
                                     {"type": "news", "payload": {}, "userIds": ["ann", "eve", "ann", "nobody"]}, ADMIN)
    assert status == 200 and body == {"users": 2, "connections": 7}
    for name in ("ann", "eve"):
        for c in people[name]:
            await c.expect("news")
            await c.nothing("news", 0)
    for c in people["bob"] + [foreign]:
        await c.nothing("news", 0)
    status, body = await belayd.rest("POST", "/v1/websocket/broadcast", {"type": "news", "payload": {}, "userIds": []}, ADMIN)
    assert status == 200 and body == {"users": 0, "connections": 0}
    # A service key of all tenants names one, in the body or the query.
    status, body = await belayd.rest("POST", "/v1/websocket/broadcast", {"type": "news", "payload": {}}, belayd.service_key)
    assert status == 422 and body["error"]["field"] == "tenantId"
    status, body = await belayd.rest("POST", "/v1/websocket/broadcast", {"type": "news", "payload": {}, "tenantId": "t2"}, belayd.service_key)
    assert body == {"users": 1, "connections": 1}
    await foreign.expect("news")
    await foreign.close()
    await close(people)


async def test_send(belayd):
    people = await connect(belayd, ann=5, bob=2)
    status, body = await belayd.rest("POST", "/v1/websocket/send/ann", {"type": "app.hello:1", "payload": {"x": 1}}, ADMIN)
    assert status == 200 and body == {"connections": 5}
    for c in people["ann"]:
        assert (await c.expect("app.hello:1"))["payload"] == {"x": 1}
    for c in people["bob"]:
        await c.nothing("app.hello:1", 0)
    for who in ("nobody", "an", "ann2"):
        status, body = await belayd.rest("POST", f"/v1/websocket/send/{who}", {"type": "x", "payload": {}}, ADMIN)
        assert status == 200 and body == {"connections": 0}
    # An id with characters that need escaping in a path.
    odd = await belayd.user("auth0|a+b@c.example")
    status, body = await belayd.rest("POST", "/v1/websocket/send/auth0%7Ca+b@c.example", {"type": "x", "payload": {}}, ADMIN)
    assert body == {"connections": 1}
    await odd.expect("x")
    await odd.close()
    await close(people)


def reserved():
    text = (TOP / "src/msg/schema.def").read_text()
    return [name for name, to in re.findall(r'^MESSAGE\(\w+, "(\w+)", ([A-Z| ]+),', text, re.M) if "SERVER" in to]


async def test_reserved_types_are_refused(belayd):
    """Nobody speaks with the server's own words."""
    names = reserved()
    assert {"connected", "command_status", "gap", "error", "token_expiring", "charger"} <= set(names)
    for name in names:
        for path in ("/v1/websocket/broadcast", "/v1/websocket/send/ann"):
            status, body = await belayd.rest("POST", path, {"type": name, "payload": {}}, ADMIN)
            assert status == 422 and body["error"]["field"] == "type", name
    for bad, field in (({"type": "Upper", "payload": {}}, "type"), ({"type": "9", "payload": {}}, "type"), ({"type": "x" * 65, "payload": {}}, "type"),
                       ({"type": "x"}, "payload"), ({"type": "x", "payload": []}, "payload"), ({"payload": {}}, "type")):
        for path in ("/v1/websocket/broadcast", "/v1/websocket/send/ann"):
            status, body = await belayd.rest("POST", path, bad, ADMIN)
            assert status == 422 and body["error"]["field"] == field, bad
    status, body = await belayd.rest("POST", "/v1/websocket/broadcast", {"type": "x", "payload": {}, "userIds": ["a b"]}, ADMIN)
    assert status == 422 and body["error"]["field"] == "userIds[0]"


async def test_status_and_disconnect(belayd):
    people = await connect(belayd, ann=5, bob=1)
    foreign = await belayd.user("ann", "t2")
    status, body = await belayd.rest("GET", "/v1/websocket/user/ann/status", bearer=ADMIN)
    assert status == 200 and body["userId"] == "ann" and body["connected"] is True and body["connections"] == 5
    status, body = await belayd.rest("GET", "/v1/websocket/user/nobody/status", bearer=SERVICE)
    assert status == 200 and body["connected"] is False and body["connections"] == 0
    status, body = await belayd.rest("DELETE", "/v1/websocket/user/ann/disconnect", bearer=ADMIN)
    assert status == 200 and body == {"disconnected": 5}
    for c in people["ann"]:
        assert await c.closed() == (4010, "Disconnected by operator")
    status, body = await belayd.rest("GET", "/v1/websocket/user/ann/status", bearer=ADMIN)
    assert body["connected"] is False
    status, body = await belayd.rest("DELETE", "/v1/websocket/user/ann/disconnect", bearer=ADMIN)
    assert status == 200 and body == {"disconnected": 0}
    for c in people["bob"] + [foreign]:
        assert (await c.ask("ping"))["type"] == "pong"
    await foreign.close()
    await close({"bob": people["bob"]})


async def test_stats_of_one_tenant(belayd):
    """An admin sees its own tenant's numbers and no others; distinct users, whatever gateway they are at."""
    a = token("boss", "st1", "admin")
    b = token("boss", "st2", "admin")
    people = [await belayd.user(*who) for who in [("ann", "st1")] * 4 + [("bob", "st1")] * 2 + [("ann", "st2")] * 3]
    devices = [await belayd.device(f"d-{i}", await belayd.register(f"d-{i}", token("ann", "st1"))) for i in range(2)]
    for c in people[:4]:
        for _ in devices:
            await c.expect("device_connected")		# counted as sent: none of these is still on its way
    status, one = await belayd.rest("GET", "/v1/websocket/stats", bearer=a)
    assert status == 200 and set(one) == {"connections", "users", "devices", "messages", "instances"}
    assert (one["connections"], one["users"], one["devices"]) == (8, 2, 2)
    assert [i["instance"] for i in one["instances"]] == ["belay-test"]
    assert {k: v for k, v in one["instances"][0].items() if k != "instance"} == {k: v for k, v in one.items() if k != "instances"}
    _, two = await belayd.rest("GET", "/v1/websocket/stats", bearer=b)
    assert (two["connections"], two["users"], two["devices"]) == (3, 1, 0)
    # Traffic of one tenant moves nothing in the other's numbers.
    for _ in range(5):
        await people[0].ask("ping")
    _, one_after = await belayd.rest("GET", "/v1/websocket/stats", bearer=a)
    _, two_after = await belayd.rest("GET", "/v1/websocket/stats", bearer=b)
    assert two_after == two
    assert one_after["messages"] == {"received": one["messages"]["received"] + 5, "sent": one["messages"]["sent"] + 5}
    # A key of all tenants sees the sum, or one of them.
    _, everything = await belayd.rest("GET", "/v1/websocket/stats", bearer=belayd.service_key)
    assert (everything["connections"], everything["users"], everything["devices"]) == (11, 3, 2)
    assert everything["messages"]["received"] >= 5
    _, named = await belayd.rest("GET", "/v1/websocket/stats?tenantId=st2", bearer=belayd.service_key)
    assert named == two
    _, none = await belayd.rest("GET", "/v1/websocket/stats", bearer=token("boss", "never-seen", "admin"))
    assert (none["connections"], none["users"], none["devices"], none["messages"]) == (0, 0, 0, {"received": 0, "sent": 0})
    for c in people + devices:
        await c.close()
    await eventually(lambda: gone(belayd))
    _, after = await belayd.rest("GET", "/v1/websocket/stats", bearer=a)
    assert after["messages"]["received"] >= one_after["messages"]["received"], "what was counted stays"


async def gone(belayd):
    _, body = await belayd.rest("GET", "/v1/websocket/stats", bearer=belayd.service_key)
    return body["connections"] == 0


async def test_who_may(belayd):
    for method, path, body in (("POST", "/v1/websocket/broadcast", {"type": "x", "payload": {}}),
                               ("POST", "/v1/websocket/send/ann", {"type": "x", "payload": {}}),
                               ("GET", "/v1/websocket/stats", None), ("GET", "/v1/websocket/user/ann/status", None),
                               ("DELETE", "/v1/websocket/user/ann/disconnect", None)):
        status, answer = await belayd.rest(method, path, body)
        assert status == 403 and answer["error"]["code"] == "no_access"
        for bearer in (ADMIN, SERVICE):
            status, _ = await belayd.rest(method, path, body, bearer)
            assert status == 200
        if "stats" not in path:
            status, answer = await belayd.rest(method, path, body, belayd.service_key)
            assert status == 422 and answer["error"]["field"] == "tenantId"


async def test_a_gateway_that_is_stopped(start):
    """The others' part is answered within the time that there is."""
    belayd = start({"server.hang_time": "5m"}, workers=2)
    clients = []
    for gateway, n in (("gateway 1", 5), ("gateway 2", 7)):
        with taken_by(belayd, gateway):
            clients += [await belayd.user("ann") for _ in range(n)]
    with stopped(belayd.workers()["gateway 2"]):
        status, body = await belayd.rest("GET", "/v1/websocket/user/ann/status", bearer=ADMIN)
        assert status == 200 and body["connections"] == 5
    status, body = await belayd.rest("GET", "/v1/websocket/user/ann/status", bearer=ADMIN)
    assert body["connections"] == 12
    for c in clients:
        await c.close()
