"""A key that is taken out of the settings, or leaves its key set, takes along what it opened (belay-protocol(7), the end of a key).

Everything is done with two gateways, each of which holds some of the connections.
"""

import asyncio
import hashlib
import json
import secrets
import signal
import socket
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization

import conftest
from belay import PATIENCE, SECRET, Belayd, Refused, Stopwatch, eventually, token
from fleet import stopped, taken_by
from test_jwks import Issuer, Key, key_set

INVALID = (1008, "Invalid token")
OTHER_SECRET = "another-secret-of-more-than-thirty-two-bytes"


class Keyed(Belayd):
    """Its keys stand in the file, where a reload changes them."""

    def __init__(self, folder, **auth):
        super().__init__(folder, workers=2)
        del self.settings["auth.jwt_secret"]
        self.settings["server.hang_time"] = "5m"		# who is stopped here lives
        self.own = self.settings.pop("auth.service_keys")
        self.write(**auth)

    def write(self, service_keys=(), issuers=(), **auth):
        def block(options):
            return "".join(f"{k} = {json.dumps(v)}; " for k, v in options.items())
        text = block({"service_keys": [self.own, *service_keys], **auth})
        if issuers:
            text += "issuers = ( " + ", ".join("{ %s}" % block(i) for i in issuers) + " ); "
        (self.folder / "belayd.conf").write_text("auth: { %s};\n" % text)

    async def reload(self, **auth):
        """Returns when every process has its new settings."""
        before = await self.metric("belay_reloads_total")
        self.write(**auth)
        self.process.send_signal(signal.SIGHUP)

        async def done():
            return await self.metric("belay_reloads_total") >= before + len(self.workers())
        await eventually(done)

    async def at_both(self, path, bearer):
        """The same connection at each gateway."""
        out = []
        for gateway in sorted(self.workers("gateway")):
            with taken_by(self, gateway):
                out.append(await self.open(path, {"Authorization": f"Bearer {bearer}"}))
        return out

    async def ticket(self, bearer):
        status, body = await self.rest("POST", "/api/ticket", bearer=bearer)
        assert status == 200, body
        return body["ticket"]


@pytest.fixture
def keyed(tmp_path):
    started = []

    def go(**auth):
        started.append(Keyed(tmp_path / f"belayd{len(started)}", **auth).start())
        return started[-1]

    yield go
    for daemon in started:
        try:
            daemon.stop()
        finally:
            conftest.check_log(daemon)


def service_key(name, tenant):
    key = "bsk_" + secrets.token_urlsafe(32)
    return key, f"{name}:{tenant}:{hashlib.sha256(key.encode()).hexdigest()}"


def pem(key):
    return key.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


class Case:
    """goes and stays make tokens by two keys; settings(both) are those with both of them, or without the first."""

    def __init__(self, folder, kind):
        self.folder, self.kind = folder, kind
        self.keys = Key("k1"), Key("k2")
        self.services = service_key("goes", "t1"), service_key("stays", "t1")
        self.everywhere = service_key("goes", "*")

    def settings(self, both=True):
        flat = {"jwt_secret": SECRET}
        path = self.folder / "keys"
        if self.kind in ("service key", "service key of all tenants"):
            goes = self.services[0] if self.kind == "service key" else self.everywhere
            return {**flat, "service_keys": [k[1] for k in (goes, self.services[1])[not both:]]}
        if self.kind == "service key of another tenant":
            return {**flat, "service_keys": [self.services[0][1] if both else self.services[0][1].replace(":t1:", ":t2:")]}
        if self.kind == "secret":
            path.write_text(pem(self.keys[1]))
            return {"jwt_public_key_file": str(path), **(flat if both else {})}
        if self.kind == "public key":
            path.write_text(pem(self.keys[0]))
            return {**flat, **({"jwt_public_key_file": str(path)} if both else {})}
        if self.kind == "one of two public keys":
            path.write_text("".join(pem(k) for k in self.keys[not both:]))
            return {"jwt_public_key_file": str(path)}
        if self.kind == "key of a set":
            path.write_bytes(key_set(*self.keys[not both:]))
            return {"jwks_file": str(path)}
        assert self.kind == "issuer"
        return {"jwt_secret": SECRET, "issuers": [{"issuer": "one"}, {"issuer": "two"}][not both:]}

    def goes(self, **claims):
        if self.kind == "service key of all tenants":
            return self.everywhere[0]
        if self.kind.startswith("service key"):
            return self.services[0][0]
        if self.kind == "secret":
            return token(**claims)
        return token(iss="one", **claims) if self.kind == "issuer" else self.keys[0].token(**claims)

    def stays(self, **claims):
        if self.kind in ("service key of another tenant", "public key"):
            return token(**claims)
        if self.kind.startswith("service key"):
            return self.services[1][0]
        return token(iss="two", **claims) if self.kind == "issuer" else self.keys[1].token(**claims)


@pytest.mark.parametrize("kind", ["service key", "service key of all tenants", "service key of another tenant", "secret", "public key",
                                  "one of two public keys", "key of a set", "issuer"])
async def test_a_removed_key(keyed, tmp_path, kind):
    """Dashboards, devices, resumed sessions and tickets: all that the key opened, in both gateways, and nothing else."""
    case = Case(tmp_path, kind)
    daemon = keyed(**case.settings())
    bdt = await daemon.register("d1", case.stays())
    path = "/ws?tenantId=t1" if kind == "service key of all tenants" else "/ws"
    by_ticket = path + ("&" if "?" in path else "?") + "ticket="
    end = await daemon.at_both(path, case.goes())
    cursor = end[0].connected["payload"].get("cursor", "x")
    end.append(await daemon.open(path + ("&" if "?" in path else "?") + f"resume={cursor}", {"Authorization": f"Bearer {case.goes()}"}))
    stay = await daemon.at_both("/ws", case.stays())
    stay.append(await daemon.device("d1", bdt))
    if "service" not in kind:
        for name in ("d2", "d3"):
            await daemon.register(name, case.stays())
        end.append(await daemon.open("/ws", {"Authorization": f"Bearer {case.goes(device='d2')}"}))
        stay.append(await daemon.open("/ws", {"Authorization": f"Bearer {case.stays(device='d3')}"}))
    end.append(await daemon.open(by_ticket + await daemon.ticket(case.goes())))
    gone, good = await daemon.ticket(case.goes()), await daemon.ticket(case.stays())

    watch = Stopwatch(daemon)
    daemon.write(**case.settings(both=False))
    daemon.process.send_signal(signal.SIGHUP)
    for c in end:
        assert await c.closed() == INVALID
    elapsed, needed = watch.stop()
    print(f"{kind}: {len(end)} ended after {elapsed:.3f} s, {needed:.3f} s without the waiting for a processor")
    assert needed < 1
    for c in stay:
        assert (await c.ask("ping"))["type"] == "pong"
    assert await daemon.metric("belay_keys_revoked_total") == len(end)
    with pytest.raises(Refused) as refused:
        await daemon.open(by_ticket + gone)
    assert (refused.value.code, refused.value.reason) == INVALID
    assert (await daemon.open(f"/ws?ticket={good}")).connected
    if kind != "service key of another tenant":
        with pytest.raises(Refused) as refused:
            await daemon.open(path, {"Authorization": f"Bearer {case.goes()}"})
        assert (refused.value.code, refused.value.reason) == INVALID
        status, body = await daemon.rest("GET", "/api/health/devices?tenantId=t1", bearer=case.goes())
        assert (status, body["error"]["code"]) == (401, "invalid_token")


async def test_a_secret_is_exchanged(keyed):
    """What the old one opened ends, and what the new one opens lasts, through a reload that changes nothing."""
    daemon = keyed(jwt_secret=SECRET)
    old = await daemon.at_both("/ws", token())
    await daemon.reload(jwt_secret=OTHER_SECRET)
    for c in old:
        assert await c.closed() == INVALID
    new = await daemon.at_both("/ws", token(secret=OTHER_SECRET))
    for more in ({}, {"audience": ""}, {"jwks_cooldown": "20s"}):
        await daemon.reload(jwt_secret=OTHER_SECRET, **more)
    for c in new:
        assert (await c.ask("ping"))["type"] == "pong"
    assert await daemon.metric("belay_keys_revoked_total") == len(old)


async def test_a_refresh_is_by_its_key(keyed, tmp_path):
    """A session counts as that key's whose token it presented last; a device's own token is no key's."""
    case = Case(tmp_path, "one of two public keys")
    daemon = keyed(**case.settings())
    bdt = await daemon.register("d1", case.stays())
    away, back, device = [await daemon.open("/ws", {"Authorization": f"Bearer {t}"})
                          for t in (case.goes(), case.stays(), case.goes(device="d1"))]
    for c, t in ((away, case.stays()), (back, case.goes()), (device, bdt)):
        assert (await c.ask("auth", {"token": t}))["type"] == "ok"
    await daemon.reload(**case.settings(both=False))
    assert await back.closed() == INVALID
    for c in (away, device):
        assert (await c.ask("ping"))["type"] == "pong"


async def test_requests_in_hand(keyed, tmp_path):
    """One that waits for the end of its command, and one whose body is on its way, are answered with 401."""
    case = Case(tmp_path, "secret")
    daemon = keyed(**case.settings())
    device = await daemon.device("d1", await daemon.register("d1", case.stays()))
    waiting = asyncio.ensure_future(daemon.rest("POST", "/api/command?wait=1", {"deviceId": "d1", "command": "x", "timeoutMs": 300000}, case.goes()))
    lasting = asyncio.ensure_future(daemon.rest("POST", "/api/command?wait=1", {"deviceId": "d1", "command": "y", "timeoutMs": 300000}, case.stays()))
    commands = {}
    for _ in range(2):
        p = (await device.expect("command"))["payload"]
        commands[p["command"]] = p["commandId"]
    with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) as s:
        s.sendall(f"POST /api/command HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\nAuthorization: Bearer {case.goes()}\r\n\r\n".encode())
        assert s.recv(4096).startswith(b"HTTP/1.1 100 ")
        await daemon.reload(**case.settings(both=False))
        answer = b""
        while more := await asyncio.get_running_loop().run_in_executor(None, s.recv, 4096):
            answer += more
    assert answer.startswith(b"HTTP/1.1 401 ") and answer.count(b"HTTP/1.1 ") == 1, answer
    status, body = await waiting
    assert (status, body["error"]["code"]) == (401, "invalid_token")
    # The command lives on: who may see it sees its end.
    for id in commands.values():
        assert (await device.ask("command_ack", {"commandId": id, "status": "executed"}))["type"] == "ok"
    status, body = await lasting
    assert status == 200 and body["command"]["status"] == "executed"
    status, body = await daemon.rest("GET", f"/api/command/{commands['x']}", bearer=case.stays())
    assert status == 200 and body["command"]["status"] == "executed"


async def test_what_waits_for_storage(keyed, tmp_path):
    """Connections that were let in but are not open yet when the key goes: a device, a ticket, a dashboard that resumes."""
    case = Case(tmp_path, "secret")
    daemon = keyed(**case.settings())
    await daemon.register("d1", case.stays())
    ticket = await daemon.ticket(case.goes())
    with stopped(*daemon.workers("storage").values()):
        early = [asyncio.ensure_future(daemon.raw(path, {"Authorization": f"Bearer {t}"} if t else {})) for path, t in
                 (("/ws", case.goes(device="d1")), (f"/ws?ticket={ticket}", ""), ("/ws?resume=x", case.goes()))]

        async def asked():
            return await daemon.metric("belay_upgrades_total") == len(early)
        await eventually(asked)
        before = await daemon.metric("belay_reloads_total")
        daemon.write(**case.settings(both=False))
        daemon.process.send_signal(signal.SIGHUP)

        async def gateways():
            return await daemon.metric("belay_reloads_total") >= before + 2
        await eventually(gateways)
        assert await (await early[2]).closed() == INVALID
    for c in early[:2]:
        c = await c
        assert await c.closed() == INVALID
        assert not c.kept, "nothing was said to it before"

    async def offline():
        status, body = await daemon.rest("GET", "/api/device/d1", bearer=case.stays())
        return status == 200 and body["device"]["presence"]["status"] == "offline"
    await eventually(offline)


async def test_a_key_leaves_a_set_by_address(keyed):
    """The new set comes because of a token by a key that is new in it; what was opened by the one that left ends, in both gateways."""
    one, two, three = Key("k1"), Key("k2"), Key("k3")
    web = Issuer(key_set(one, two))
    try:
        daemon = keyed(jwks_url=web.url, jwks_cooldown="1s")
        end, stay = await daemon.at_both("/ws", one.token()), await daemon.at_both("/ws", two.token())
        gone = await daemon.ticket(one.token())
        web.answer = key_set(two, three)

        async def rotated():
            try:
                return await daemon.open("/ws", {"Authorization": f"Bearer {three.token()}"})
            except Refused:
                return None		# within the cooldown
        await eventually(rotated)
        for c in end:
            assert await c.closed() == INVALID
        for c in stay:
            assert (await c.ask("ping"))["type"] == "pong"
        with pytest.raises(Refused):
            await daemon.open(f"/ws?ticket={gone}")
        # A reload with the same set ends nothing.
        await daemon.reload(jwks_url=web.url, jwks_cooldown="1s")
        for c in stay:
            assert (await c.ask("ping"))["type"] == "pong"
        assert await daemon.metric("belay_keys_revoked_total") == len(end)
    finally:
        web.stop()


async def test_what_an_issuer_may_name(keyed):
    """A block's bounds: tokens beyond them are refused, roles are passed over, and a bound that comes ends what is beyond it."""
    wide = {"jwt_secret": SECRET, "issuers": [{"issuer": "one"}, {"issuer": "two"}]}
    narrow = {"jwt_secret": SECRET, "issuers": [{"issuer": "one", "tenants": ["acme", "acme-*"], "roles": False}, {"issuer": "two"}]}
    daemon = keyed(**wide)

    def by(tenant, role=None, iss="one", **claims):
        return token("u1", tenant, role, iss=iss, **claims)
    await daemon.register("d1", by("bolt"))
    ticket = await daemon.ticket(by("bolt"))
    door = token(None, "bolt", iss="one", device="d1")
    end = [c for t in (by("bolt"), by("acme", "admin"), by("acme-1", "service")) for c in await daemon.at_both("/ws", t)]
    end.append(await daemon.open("/ws", {"Authorization": f"Bearer {door}"}))
    stay = [c for t in (by("acme"), by("acme-1"), by("bolt", "admin", "two")) for c in await daemon.at_both("/ws", t)]
    await daemon.reload(**narrow)
    for c in end:
        assert await c.closed() == INVALID
    for c in stay:
        assert (await c.ask("ping"))["type"] == "pong"
    for path, t in (("/ws", by("bolt")), ("/ws", by("acme2")), ("/ws", door),
                    ("/ws", by(None)), (f"/ws?ticket={ticket}", "")):
        with pytest.raises(Refused) as refused:
            await daemon.open(path, {"Authorization": f"Bearer {t}"} if t else {})
        assert (refused.value.code, refused.value.reason) == INVALID, t
    c = await daemon.open("/ws", {"Authorization": f"Bearer {by('acme', 'admin')}"})
    assert c.connected["payload"]["role"] == "user"
    assert (await daemon.rest("POST", "/v1/websocket/broadcast", {"type": "x", "payload": {}}, by("acme", "admin")))[0] == 403
    assert (await daemon.rest("POST", "/v1/websocket/broadcast", {"type": "x", "payload": {}}, by("acme", "admin", "two")))[0] == 200


def test_two_keys_of_one_name(tmp_path):
    """Two different keys of one kid and algorithm are a fault of the settings; issuers that share a key are not."""
    daemon = Keyed(tmp_path)
    keys = Key("k1"), Key("k1")
    for i, key in enumerate(keys):
        (tmp_path / f"{i}").write_bytes(key_set(key))
    (tmp_path / "both").write_bytes(key_set(*keys))
    for names, status in ((("0", "1"), 1), (("0", "0"), 0), (("both",), 1)):
        daemon.write(issuers=[{"issuer": str(i), "jwks_file": str(tmp_path / name)} for i, name in enumerate(names)])
        out = subprocess.run(daemon.command("-t"), capture_output=True, text=True, timeout=PATIENCE)
        assert out.returncode == status, (names, out.stderr)
        if status:
            assert "two different keys of one kid and algorithm" in out.stdout + out.stderr


async def test_a_key_of_all_tenants_is_seen_and_ended(start):
    """Whichever tenant it named: and not the user of a tenant who is called as the key is."""
    daemon = start(workers=2)
    bearer = {"Authorization": f"Bearer {daemon.service_key}"}
    mine = []
    for gateway in sorted(daemon.workers("gateway")):
        with taken_by(daemon, gateway):
            mine += [await daemon.open(path, bearer) for path in ("/ws?tenantId=t1", "/ws?tenantId=t1", "/ws?tenantId=t2")]
    name = mine[0].connected["payload"]["userId"]
    assert name == "key:backend"
    user = await daemon.user("backend")
    path = f"/v1/websocket/user/{name}"
    status, body = await daemon.rest("GET", f"{path}/status?tenantId=*", bearer=daemon.service_key)
    assert status == 200 and body == {"userId": name, "connected": True, "connections": 6}
    status, body = await daemon.rest("GET", f"{path}/status?tenantId=%2A", bearer=daemon.service_key)
    assert status == 200 and body["connections"] == 6
    status, body = await daemon.rest("GET", f"{path}/status?tenantId=t1", bearer=daemon.service_key)
    assert status == 200 and body["connections"] == 4
    # It is the operator's word: an admin's is about its own tenant.
    status, body = await daemon.rest("GET", f"{path}/status?tenantId=*", bearer=token("boss", role="admin"))
    assert status == 403
    status, body = await daemon.rest("DELETE", f"{path}/disconnect?tenantId=*", bearer=daemon.service_key)
    assert status == 200 and body == {"disconnected": 6}
    for c in mine:
        assert await c.closed() == (4010, "Disconnected by operator")
    assert (await user.ask("ping"))["type"] == "pong"
    status, body = await daemon.rest("GET", f"{path}/status?tenantId=*", bearer=daemon.service_key)
    assert body == {"userId": name, "connected": False, "connections": 0}
    # Of these two routes alone.
    status, body = await daemon.rest("POST", "/v1/websocket/broadcast?tenantId=*", {"type": "x", "payload": {}}, daemon.service_key)
    assert status == 422 and body["error"]["field"] == "tenantId"
