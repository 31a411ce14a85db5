"""Whose token counts for what, and until when: expiry, tickets, names of keys, tenants, chargers (protocol sections 1, 2, 3.5)."""

import asyncio
import hashlib
import subprocess
import time

import aiohttp
import pytest

from belay import BUILD, PATIENCE, Refused, SECRET, clean_environment, token

SETTINGS = {"limits.message_rate": 1, "limits.message_burst": 5, "limits.abuse_time": "10m",
            "auth.service_keys": f"ci:t1:{hashlib.sha256(b'bsk_' + b'c' * 43).hexdigest()},all:*:{hashlib.sha256(b'bsk_' + b'g' * 43).hexdigest()}"}
CI, ALL = "bsk_" + "c" * 43, "bsk_" + "g" * 43


async def test_told_once_of_each_token(belayd):
    """Half of what was left at the earliest, and the same token again is no new one; then the connection ends."""
    began = time.time()
    bearer = token("once", exp=int(began) + 8)
    c = await belayd.open("/ws", {"Authorization": f"Bearer {bearer}"})
    left = int(began) + 8 - time.time()
    await c.expect("token_expiring")
    assert int(began) + 8 - time.time() <= left / 2 + 0.1
    for _ in range(3):
        assert (await c.ask("auth", {"token": bearer}))["type"] == "ok"
    assert (await c.ask("ping"))["type"] == "pong"
    assert not [m for m in c.kept if m["type"] == "token_expiring"]
    assert (await c.ask("auth", {"token": token("once", exp=int(time.time()) + 5)}))["type"] == "ok"
    assert (await c.expect("token_expiring"))["payload"]
    assert await c.closed() == (1008, "Token expired")
    assert not [m for m in c.kept if m["type"] == "token_expiring"]


async def test_a_refresh_has_a_limit_of_its_own(belayd):
    """What else was said does not stand in its way; ten at once are taken, and of the next it is told when to come."""
    c = await belayd.user("busy")
    refused = 0
    while not refused:
        answer = await c.ask("ping")
        refused += answer["type"] == "error" and answer["payload"]["code"] == "rate_limited"
    for _ in range(10):
        assert (await c.ask("auth", {"token": token("busy")}))["type"] == "ok"
    answer = await c.ask("auth", {"token": token("busy")})
    assert answer["payload"]["code"] == "rate_limited" and 0 < answer["payload"]["retryAfterMs"] <= 6000, answer


async def test_a_ticket_is_worth_no_more_than_its_token(belayd):
    """Made in the last seconds in which its token is taken: it ends with the token, not 30 s later."""
    exp = int(time.time()) - 3
    status, body = await belayd.rest("POST", "/api/ticket", bearer=token("late", exp=exp))
    assert status == 200, body
    assert body["expiresAt"].startswith(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(exp))), body
    while time.time() < exp + 5.1:
        await asyncio.sleep(0.1)
    with pytest.raises(Refused) as refused:
        await belayd.open(f"/ws?ticket={body['ticket']}")
    assert (refused.value.code, refused.value.reason) == (1008, "Invalid token")


async def test_a_key_has_a_name_that_no_user_has(belayd):
    c = await belayd.open("/ws", {"Authorization": f"Bearer {CI}"})
    assert c.connected["payload"]["userId"] == "key:ci"
    assert (await belayd.user("ci")).connected["payload"]["userId"] == "ci"
    status, body = await belayd.rest("GET", "/v1/websocket/user/ci/status", bearer=CI)
    assert status == 200 and body["connections"] == 1, body
    with pytest.raises(Refused) as refused:
        await belayd.user("key:ci")
    assert (refused.value.code, refused.value.reason) == (1008, "Invalid token")
    assert (await belayd.rest("GET", "/api/device", bearer=token("key:ci")))[0] == 401


@pytest.mark.parametrize("who", ["u1", "service", "key"])
async def test_another_tenant_is_refused(belayd, who):
    bearer = CI if who == "key" else token("u1", "t1", None if who == "u1" else "service")
    for method, path, body in (("GET", "/api/device?tenantId=t2", None), ("POST", "/api/device/register", {"name": "x", "tenantId": "t2"}),
                               ("GET", "/api/events?tenantId=t2", None),
                               ("POST", "/api/command", {"deviceId": "x", "command": "c", "tenantId": "t2"}),
                               ("POST", "/api/telemetry", [{"deviceId": "x", "data": {}}, {"deviceId": "x", "data": {}, "tenantId": "t2"}])):
        status, answer = await belayd.rest(method, path, body, bearer)
        assert status == 403 and answer["error"]["code"] == "no_access", (path, answer)

    async with aiohttp.ClientSession() as s:		# the name with an escape
        async with s.post(belayd.http + "/api/device/register", data=b'{"name":"x","tenant\\u0049d":"t2"}',
                          headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}) as r:
            assert r.status == 403
    assert (await belayd.rest("GET", "/api/device?tenantId=t1", bearer=bearer))[0] == 200
    c = await belayd.open("/ws?tenantId=t1", {"Authorization": f"Bearer {bearer}"})
    answer = await c.ask("command", {"deviceId": "x", "command": "c", "tenantId": "t2"})
    assert answer["payload"]["code"] == "no_access" and answer["payload"]["field"] == "payload.tenantId", answer
    with pytest.raises(Refused) as refused:
        await belayd.open("/ws?tenantId=t2", {"Authorization": f"Bearer {bearer}"})
    assert (refused.value.code, refused.value.reason) == (4003, "No access")


async def test_a_key_of_all_tenants_names_one(belayd):
    for query in ("", "?tenantId=", "?tenantId=*", "?tenantId=a%20b"):
        with pytest.raises(Refused) as refused:
            await belayd.open("/ws" + query, {"Authorization": f"Bearer {ALL}"})
        assert (refused.value.code, refused.value.reason) == (1008, "Missing tenant"), query
    bdt = await belayd.register("all-1")
    c = await belayd.open("/ws?tenantId=t1", {"Authorization": f"Bearer {ALL}"})
    assert c.connected["payload"]["tenantId"] == "t1" and c.connected["payload"]["userId"] == "key:all"
    await belayd.device("all-1", bdt)
    assert (await c.expect("device_connected"))["payload"]["deviceId"] == "all-1"


async def test_two_authorizations(belayd):
    for upgrade in (b"", b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", belayd.port)
        path = b"/ws" if upgrade else b"/api/device"
        writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + upgrade + 2 * f"Authorization: Bearer {token()}\r\n".encode() + b"\r\n")
        assert (await asyncio.wait_for(reader.readline(), PATIENCE)).startswith(b"HTTP/1.1 400")
        writer.close()


async def test_no_charger_feed(belayd):
    for path, bearer, code, reason in (("/ws?charger=CB-1", token(), 4004, "No charger feed"), ("/ws?charger=CB-1", None, 4001, "Missing token"),
                                       ("/ws?charger=CB-1", token(exp=int(time.time()) - 60), 4002, "Invalid token")):
        with pytest.raises(Refused) as refused:
            await belayd.open(path, {"Authorization": f"Bearer {bearer}"} if bearer else {})
        assert (refused.value.code, refused.value.reason) == (code, reason)


def run(folder, conf, *args):
    path = folder / "belayd.conf"
    path.write_text(conf)
    return subprocess.run([str(BUILD / "belayd"), "-c", str(path), "-o", f"server.run_dir={folder}", *args], capture_output=True, text=True,
                          env=clean_environment(), timeout=PATIENCE)


def test_settings_without_any_key(tmp_path):
    bare = 'store: { url = "memory:"; };'
    for how in (["-t"], ["-f"]):
        out = run(tmp_path, bare, *how)
        assert out.returncode == 1 and "no key" in out.stderr, out
    assert run(tmp_path, bare, "-T").returncode == 0
    key = f"ci:t1:{'ab' * 32}"
    for more in (["-o", f"auth.jwt_secret={SECRET}"], ["-o", f"auth.service_keys={key}"], ["-o", "auth.jwks_url=https://login.example/jwks"]):
        assert run(tmp_path, bare, "-t", *more).returncode == 0, more


async def test_an_issuer_lifts_the_flat_audience(start, tmp_path):
    conf = (f'auth: {{ jwt_secret = "{SECRET}"; audience = "flat"; azp = ["app"]; issuers = ( {{ issuer = "a"; }}, '
            '{ issuer = "b"; audience = ""; azp = []; } ); };')
    printed = run(tmp_path, conf, "-T").stdout
    blocks = printed[printed.index("issuers = ("):].split("}")
    assert 'audience = "flat"' in blocks[0] and 'azp = ["app"]' in blocks[0], printed
    assert 'audience = ""' in blocks[1] and "azp = []" in blocks[1], printed
    folder = tmp_path / "daemon"
    folder.mkdir()
    (folder / "belayd.conf").write_text(conf)
    daemon = start(folder=folder)
    assert (await daemon.rest("GET", "/api/device", bearer=token(iss="a")))[0] == 401
    assert (await daemon.rest("GET", "/api/device", bearer=token(iss="a", aud="flat", azp="app")))[0] == 200
    assert (await daemon.rest("GET", "/api/device", bearer=token(iss="b")))[0] == 200
