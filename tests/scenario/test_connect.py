"""Connecting: where a token can be, what becomes of bad ones, and how a connection lives and ends (protocol section 2)."""

import asyncio
import json
import time

import jwt
import pytest
import websockets

from belay import PATIENCE, SECRET, Refused, Stopwatch, eventually, token


async def refused(belayd, path="/ws", headers=None, **kwargs):
    with pytest.raises(Refused) as e:
        await belayd.open(path, headers, **kwargs)
    return e.value.code, e.value.reason


def bearer(t):
    return {"Authorization": f"Bearer {t}"}


async def test_greeting(belayd):
    c = await belayd.user("alice", "acme", "org:admin")
    p = c.connected["payload"]
    assert p["userId"] == "alice" and p["tenantId"] == "acme" and p["role"] == "admin"
    assert p["instance"] == "belay-test" and p["heartbeatMs"] == 30000 and p["version"]
    assert p["expiresAt"].endswith("Z") and len(p["expiresAt"]) == 24 and len(p["connectionId"]) == 36
    assert (await c.ask("ping"))["type"] == "pong"
    await c.close()


@pytest.mark.parametrize("path", ["/", "/ws"])
async def test_token_in_query(belayd, path):
    c = await belayd.open(f"{path}?token={token()}")
    await c.close()


async def test_token_in_subprotocol(belayd):
    c = await belayd.open(subprotocols=["belay.v1", f"belay.token.{token()}"])
    assert c.ws.subprotocol == "belay.v1"
    assert token() not in str(c.ws.response_headers)
    await c.close()


async def test_authorization_comes_first(belayd):
    c = await belayd.open(f"/ws?token={token('query')}", bearer(token("header")))
    assert c.connected["payload"]["userId"] == "header"
    await c.close()


async def test_token_in_first_message(belayd):
    c = await belayd.raw("/ws?auth=message")
    await c.send("auth", {"token": token("late")})
    m = await c.recv()
    assert m["type"] == "connected" and m["payload"]["userId"] == "late"
    await c.close()
    for first in ('{"type":"ping"}', "nonsense", '{"type":"auth"}'):
        c = await belayd.raw("/ws?auth=message")
        await c.ws.send(first)
        assert await c.closed() == (1008, "Missing token")
    c = await belayd.raw("/ws?auth=message")
    await c.send("auth", {"token": "x.y.z"})
    assert await c.closed() == (1008, "Invalid token")


async def test_ticket_is_used_once(belayd):
    status, body = await belayd.rest("POST", "/api/ticket", bearer=token("bob", role="admin"))
    assert status == 200 and body["expiresAt"]
    c = await belayd.open(f"/ws?ticket={body['ticket']}")
    assert c.connected["payload"]["userId"] == "bob" and c.connected["payload"]["role"] == "admin"
    assert await refused(belayd, f"/ws?ticket={body['ticket']}") == (1008, "Invalid token")
    assert await refused(belayd, "/ws?ticket=nonsense") == (1008, "Invalid token")
    await c.close()


async def test_the_greeting_answers_a_first_message_with_an_id(belayd):
    bdt = await belayd.register("greeted-1")
    for path, t in (("/ws?auth=message", token("late")), ("/ws?auth=message&device=greeted-1", bdt)):
        for id in ("first", "", None):
            c = await belayd.raw(path)
            await c.send("auth", {"token": t}, id)
            m = await c.recv()
            assert m["type"] == "connected" and m.get("re") == id, m
            assert (await c.ask("ping"))["type"] == "pong"
            await c.close()


async def test_percent_encoding(belayd):
    """Whatever may be encoded is decoded, '+' is itself, and what can't be decoded is no token of anybody's."""
    name = "p+|=@:._-1"
    bdt = await belayd.register(name)
    for id in (name, name.replace("+", "%2B").replace("|", "%7c"), "".join(f"%{ord(c):02X}" for c in name)):
        for t in (bdt, "".join(f"%{ord(c):02x}" for c in bdt)):
            c = await belayd.open(f"/ws?device={id}&token={t}")
            assert c.connected["payload"]["deviceId"] == name
            await c.close()
    for query in (f"token=%zz{token()}", f"token={token()}%", "ticket=%0", f"device=%zz&token={bdt}"):
        assert await refused(belayd, "/ws?" + query) == (1008, "Invalid token"), query


@pytest.mark.parametrize("bad, reason", [
    ("", "Missing token"),
    ("nonsense", "Invalid token"),
    ("a.b.c", "Invalid token"),
    (token(secret="another-secret-that-is-long-enough-too"), "Invalid token"),
    (token(ttl=-60), "Token expired"),
    (token(user=None), "Invalid token"),
    (token(nbf=int(time.time()) + 600), "Invalid token"),
    (jwt.encode({"sub": "u", "exp": time.time() + 60}, None, algorithm="none"), "Invalid token"),
    (jwt.encode({"sub": "u"}, SECRET), "Invalid token"),
    ("bdt_" + "A" * 43, "Invalid token"),
    ("bdt_short", "Invalid token"),
    ("bsk_" + "A" * 43, "Invalid token"),
    (token(user="has space"), "Invalid token"),
], ids=["none", "nonsense", "dots", "other_secret", "expired", "no_user", "not_yet", "alg_none", "no_exp",
        "unknown_device_token", "short_device_token", "unknown_service_key", "bad_user"])
async def test_bad_tokens(belayd, bad, reason):
    assert await refused(belayd, headers=bearer(bad) if bad else None) == (1008, reason)
    status, body = await belayd.rest("GET", "/api/device", bearer=bad)
    assert status == 401
    assert body["error"]["code"] == {"Missing token": "missing_token", "Invalid token": "invalid_token", "Token expired": "token_expired"}[reason]


async def test_charger_has_codes_of_its_own(belayd):
    assert await refused(belayd, "/ws?charger=CB-1") == (4001, "Missing token")
    assert await refused(belayd, "/ws?charger=CB-1&token=x") == (4002, "Invalid token")
    assert await refused(belayd, "/ws?charger=CB-1&token=" + token(ttl=-60)) == (4002, "Invalid token")


async def test_leeway(belayd):
    c = await belayd.user(ttl=-2)
    assert await c.closed() == (1008, "Token expired")
    c = await belayd.user(iat=int(time.time()) + 3)
    await c.close()


async def test_device_tokens(belayd):
    bdt = await belayd.register("conn-1")
    c = await belayd.device("conn-1", bdt)
    assert c.connected["payload"]["tenantId"] == "t1" and "userId" not in c.connected["payload"]
    epoch = c.connected["payload"]["epoch"]
    await c.close()
    c = await belayd.open(f"/ws?token={bdt}", {"X-Device-Id": "conn-1"})
    assert c.connected["payload"]["epoch"] > epoch
    await c.close()
    assert await refused(belayd, "/ws?device=conn-2", bearer(bdt)) == (1008, "Invalid token")
    c = await belayd.open("/ws", bearer(token(user=None, device="conn-1")))
    assert c.connected["payload"]["deviceId"] == "conn-1"
    await c.close()
    assert await refused(belayd, "/ws", bearer(token(user=None, device="not-registered"))) == (1008, "Invalid token")


async def test_takeover(belayd):
    bdt = await belayd.register("conn-3")
    viewer = await belayd.user()
    first = await belayd.device("conn-3", bdt)
    e1 = (await viewer.expect("device_connected", where=lambda m: m["payload"]["deviceId"] == "conn-3"))["payload"]["epoch"]
    second = await belayd.device("conn-3", bdt)
    assert await first.closed() == (4009, "Replaced")
    e2 = (await viewer.expect("device_connected"))["payload"]["epoch"]
    assert e2 > e1
    await viewer.nothing("device_disconnected")
    status, body = await belayd.rest("GET", "/api/device/conn-3")
    assert body["device"]["presence"]["status"] == "online" and body["device"]["presence"]["epoch"] == e2
    await second.close()
    gone = (await viewer.expect("device_disconnected"))["payload"]
    assert gone["epoch"] == e2 and gone["deviceId"] == "conn-3" and gone["transport"] == "ws"
    status, body = await belayd.rest("GET", "/api/device/conn-3")
    assert body["device"]["presence"]["status"] == "offline"
    await viewer.close()


async def test_expiry_and_refresh(belayd):
    c = await belayd.user(ttl=4)
    warning = await c.expect("token_expiring")
    assert warning["payload"]["expiresAt"] == c.connected["payload"]["expiresAt"]
    answer = await c.ask("auth", {"token": token(ttl=6)})
    assert answer["type"] == "ok" and answer["payload"]["expiresAt"] > warning["payload"]["expiresAt"]
    watch = Stopwatch(belayd)
    assert await c.closed() == (1008, "Token expired")
    elapsed, needed = watch.stop()
    assert 4 <= elapsed and needed <= 11.5
    c = await belayd.user()
    await c.send("auth", {"token": token("somebody-else")})
    assert await c.closed() == (1008, "Invalid token")
    c = await belayd.user()
    await c.send("auth", {"token": token(tenant="another")})
    assert await c.closed() == (1008, "Invalid token")


async def test_a_device_refreshes_in_place(belayd):
    """With either kind of its own tokens, whichever it came with; with anybody else's it is closed."""
    mine, other = [await belayd.register(name) for name in ("fresh-1", "fresh-2")]
    by_jwt = token(user=None, device="fresh-1", ttl=120)
    for first in (mine, by_jwt):
        c = await belayd.open("/ws", bearer(first))
        assert await c.ask("auth", {"token": mine}) | {"re": ""} == {"type": "ok", "re": "", "payload": {"expiresAt": None}}
        m = await c.ask("auth", {"token": by_jwt})
        assert m["type"] == "ok" and m["payload"]["expiresAt"], m
        assert (await c.ask("ping"))["type"] == "pong"
        await c.close()
    for wrong in (other, "bdt_" + "A" * 43, "bdt_short", token(), token(user=None, device="fresh-2"), token(user=None, device="fresh-1", tenant="t2")):
        c = await belayd.open("/ws", bearer(mine))
        await c.send("auth", {"token": wrong})
        assert await c.closed() == (1008, "Invalid token"), wrong


async def test_a_service_key_refreshes_in_place(belayd):
    c = await belayd.open("/ws?tenantId=t1", bearer(belayd.service_key))
    assert (await c.ask("auth", {"token": belayd.service_key}))["payload"] == {"expiresAt": None}
    await c.send("auth", {"token": token("backend", "t1", "service")})
    assert await c.closed() == (1008, "Invalid token"), "a key of all tenants is not a user of one"


async def test_a_token_that_is_over_is_said_so_at_once(belayd):
    """Within the leeway it is taken; the connection ends with the next second."""
    await belayd.rest("POST", "/api/device/register", {"deviceId": "soon-1", "name": "soon"})
    for t in (token(ttl=-3), token(user=None, device="soon-1", ttl=-3)):
        c = await belayd.open("/ws", bearer(t))
        assert (await c.recv())["type"] == "token_expiring"
        assert await c.closed() == (1008, "Token expired")


async def test_origin(start):
    belayd = start({"auth.origins": "https://a.example,https://b.example"})
    c = await belayd.user()
    await c.close()
    c = await belayd.open(f"/ws?token={token()}", origin="https://b.example")
    await c.close()
    for origin in ("https://c.example", "http://a.example", "https://a.example.evil", "null"):
        with pytest.raises(websockets.InvalidStatusCode) as e:
            await belayd.raw(f"/ws?token={token()}", origin=origin)
        assert e.value.status_code == 403


async def test_silence_ends_a_connection(start):
    belayd = start({"limits.heartbeat": "1s", "limits.handshake_time": "1s"})
    reader, writer = await asyncio.open_connection("127.0.0.1", belayd.port)
    watch = Stopwatch(belayd)
    writer.write(b"GET /ws HTTP/1.1\r\nHost:")
    await writer.drain()
    assert b" 408 " in await asyncio.wait_for(reader.read(), PATIENCE)
    assert watch.stop()[1] < 6
    writer.close()

    # A WebSocket whose peer answers no ping: nothing comes, so TCP is ended without a close frame.
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    reader, writer = await asyncio.open_connection("127.0.0.1", belayd.port)
    writer.write((f"GET /ws?token={token()} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
    data = await asyncio.wait_for(reader.read(), PATIENCE)
    assert b"101" in data and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in data
    assert data.endswith(b"\x89\x00")
    assert await belayd.metric("belay_heartbeat_lost_total") == 1


async def test_auth_message_silence(start):
    belayd = start()
    c = await belayd.raw("/ws?auth=message")
    watch = Stopwatch(belayd)
    assert await c.closed() == (1008, "Missing token")
    elapsed, needed = watch.stop()
    assert 10 <= elapsed and needed < 13, "10 s are promised"
