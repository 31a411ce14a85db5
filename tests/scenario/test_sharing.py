"""Sharing: what each permission allows, and that what is withdrawn is gone from open connections at once (protocol section 6)."""

import asyncio
import signal
import statistics
import time
from datetime import datetime, timedelta, timezone

import pytest

from belay import Refused, eventually, run_device, token

VIEW, CONTROL, ADMIN, OWNER = range(4)
RANKS = {"view": VIEW, "control": CONTROL, "admin": ADMIN, "owner": OWNER, "none": -1}


def at(seconds):
    t = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return t.strftime("%Y-%m-%dT%H:%M:%S.") + f"{t.microsecond // 1000:03}Z"


async def share(belayd, device, user, permission, bearer=None, expected=201, **more):
    status, body = await belayd.rest("POST", f"/api/device/{device}/share", {"userId": user, "permission": permission, **more}, bearer)
    assert status == expected, body
    return body


async def unshare(belayd, device, user, bearer=None):
    status, body = await belayd.rest("DELETE", f"/api/device/{device}/share/{user}", bearer=bearer)
    assert status == 204, body


# What needs which permission.  {id}: the device; a fresh one for what destroys.
NEEDS = [
    (VIEW, "GET", "/api/device/{id}", None), (VIEW, "GET", "/api/device/{id}/events", None),
    (VIEW, "GET", "/api/device/{id}/telemetry", None),
    (VIEW, "GET", "/api/device/{id}/commands", None), (VIEW, "GET", "/api/command/{command}", None),
    (CONTROL, "PUT", "/api/device/{id}", {"name": "x"}), (CONTROL, "PUT", "/api/device/{id}", {"settings": {"a": 1}}),
    (CONTROL, "POST", "/api/command", {"deviceId": "{id}", "command": "c", "queueMs": 60000}),
    (CONTROL, "POST", "/api/command/open", {"deviceId": "{id}", "queueMs": 60000}),
    (CONTROL, "DELETE", "/api/command/{queued}", None),
    (CONTROL, "POST", "/api/visitor/{visitor}/deny", None), (CONTROL, "POST", "/api/visitor/{visitor}/approve", None),
    (ADMIN, "GET", "/api/device/{id}/share", None), (ADMIN, "POST", "/api/device/{id}/share", {"userId": "somebody", "permission": "view"}),
    (ADMIN, "DELETE", "/api/device/{id}/share/temp", None), (ADMIN, "POST", "/api/device/{id}/token", None),
    (OWNER, "POST", "/api/telemetry", {"deviceId": "{id}", "data": {}}), (OWNER, "DELETE", "/api/device/{id}", None),
]


async def test_each_permission(belayd):
    """The whole table: who has less is refused with 403, who has enough is not, and nothing was changed by who was refused."""
    for n, (needs, method, path, body) in enumerate(NEEDS):
        id = f"perm-{n}"
        bdt = await belayd.register(id)
        for user, permission in (("p-view", "view"), ("p-control", "control"), ("p-admin", "admin"), ("temp", "view")):
            await share(belayd, id, user, permission)
        device = await belayd.device(id, bdt)
        await device.ask("visitor", {"visitorId": f"01890000-0000-7000-8000-{n:012}"})
        await device.close()
        await eventually(lambda: offline(belayd, id))
        _, q = await belayd.rest("POST", "/api/command", {"deviceId": id, "command": "q", "queueMs": 60000})
        names = {"id": id, "command": q["command"]["commandId"], "queued": q["command"]["commandId"],
                 "visitor": f"01890000-0000-7000-8000-{n:012}"}
        fill = lambda x: x.format(**names) if isinstance(x, str) else x
        body = {k: fill(v) for k, v in body.items()} if body else None
        for user in ("p-none", "p-view", "p-control", "p-admin", "u1"):
            rank = OWNER if user == "u1" else RANKS[user[2:]]
            status, answer = await belayd.rest(method, fill(path), body, token(user))
            if rank < needs:
                assert status == 403 and answer["error"]["code"] == "no_access", (user, method, path, answer)
            elif not (status < 300):
                # Done already by the one before who had enough: no longer there, no longer queued, decided.
                assert rank > needs and status in (404, 409), (user, method, path, answer)
        # Of another tenant: not there at all, in the same words.
        nowhere = {**names, "id": "nowhere", "command": names["visitor"], "queued": names["visitor"], "visitor": names["command"]}
        elsewhere = token("u1", "t2", "admin")
        foreign = await belayd.rest(method, fill(path), body, elsewhere)
        nothing = await belayd.rest(method, path.format(**nowhere), {k: v.format(**nowhere) if isinstance(v, str) else v for k, v in
                                                                     NEEDS[n][3].items()} if NEEDS[n][3] else None, elsewhere)
        assert foreign == nothing and foreign[0] == 404, (method, path, foreign, nothing)


async def offline(belayd, id):
    _, body = await belayd.rest("GET", f"/api/device/{id}")
    return body["device"]["presence"]["status"] == "offline"


async def test_shares(belayd):
    await belayd.register("sh-1")
    body = await share(belayd, "sh-1", "ann", "view")
    assert body == {"share": {"userId": "ann", "permission": "view"}}
    until = at(3600)
    body = await share(belayd, "sh-1", "bob", "control", expiresAt=until, commands=["unlock_door", "x"])
    assert body == {"share": {"userId": "bob", "permission": "control", "expiresAt": until, "commands": ["unlock_door", "x"]}}
    status, body = await belayd.rest("GET", "/api/device/sh-1/share")
    assert status == 200 and [s["userId"] for s in body["shares"]] == ["ann", "bob"]
    await share(belayd, "sh-1", "ann", "admin")         # again: changed
    _, body = await belayd.rest("GET", "/api/device/sh-1/share", bearer=token("ann"))
    assert body["shares"][0] == {"userId": "ann", "permission": "admin"} and len(body["shares"]) == 2
    for bad, field in (({"permission": "view"}, "userId"), ({"userId": "x"}, "permission"), ({"userId": "x", "permission": "all"}, "permission"),
                       ({"userId": "a b", "permission": "view"}, "userId"), ({"userId": "x", "permission": "view", "expiresAt": "soon"}, "expiresAt"),
                       ({"userId": "x", "permission": "view", "expiresAt": at(-5)}, "expiresAt"),
                       ({"userId": "x", "permission": "control", "commands": "unlock_door"}, "commands"),
                       ({"userId": "u1", "permission": "view"}, "userId")):
        status, body = await belayd.rest("POST", "/api/device/sh-1/share", bad)
        assert status == 422 and body["error"]["field"] == field, bad
    status, body = await belayd.rest("DELETE", "/api/device/sh-1/share/nobody")
    assert status == 404
    await unshare(belayd, "sh-1", "ann")
    assert (await belayd.rest("GET", "/api/device/sh-1", bearer=token("ann")))[0] == 403
    # Shared devices are in the lists, and no others.
    _, body = await belayd.rest("GET", "/api/device", bearer=token("bob"))
    assert [d["deviceId"] for d in body["devices"]] == ["sh-1"]
    # A share is of a user of this tenant.
    assert (await belayd.rest("GET", "/api/device/sh-1", bearer=token("bob", "t2")))[0] == 404


async def test_shares_limited_to_commands(belayd):
    bdt = await belayd.register("cs-1")
    device = await belayd.device("cs-1", bdt)
    await run_device(device)
    await share(belayd, "cs-1", "bob", "control", commands=["unlock_door"])
    user = await belayd.user("bob")
    for command, status in (("unlock_door", 202), ("lock_door", 403), ("update_settings", 403)):
        assert (await belayd.rest("POST", "/api/command", {"deviceId": "cs-1", "command": command}, token("bob")))[0] == status
        m = await user.ask("command", {"deviceId": "cs-1", "command": command})
        assert m["type"] == ("command_status" if status == 202 else "error"), m
        if status != 202:
            assert m["payload"]["code"] == "no_access"
    assert (await belayd.rest("POST", "/api/command/open", {"deviceId": "cs-1"}, token("bob")))[0] == 202
    assert (await belayd.rest("PUT", "/api/device/cs-1", {"settings": {}}, token("bob")))[0] == 403
    assert (await belayd.rest("PUT", "/api/device/cs-1", {"name": "n"}, token("bob")))[0] == 200
    await share(belayd, "cs-1", "bob", "control", commands=[])
    assert (await belayd.rest("POST", "/api/command/open", {"deviceId": "cs-1"}, token("bob")))[0] == 403
    await share(belayd, "cs-1", "bob", "control")
    assert (await belayd.rest("POST", "/api/command", {"deviceId": "cs-1", "command": "lock_door"}, token("bob")))[0] == 202
    await user.close()
    await device.close()


async def test_messages_to_the_user_concerned(belayd):
    await belayd.register("msg-9")
    ann, bob, foreign = await belayd.user("ann"), await belayd.user("bob"), await belayd.user("ann", "t2")
    await share(belayd, "msg-9", "ann", "control")
    m = await ann.expect("device_shared")
    assert m["payload"] == {"deviceId": "msg-9", "permission": "control", "by": "u1"} and m["cursor"]
    await unshare(belayd, "msg-9", "ann", token("boss", role="admin"))
    m = await ann.expect("device_unshared")
    assert m["payload"] == {"deviceId": "msg-9", "permission": "control", "by": "boss"}
    for c in (bob, foreign):
        await c.nothing("device_shared", 0.05)
        await c.nothing("device_unshared", 0)
        await c.close()
    await ann.close()


async def test_subscriptions_want_a_right(belayd):
    await belayd.register("subs-1")
    c = await belayd.user("ann2")
    m = await c.ask("subscribe", {"devices": ["subs-1"]})
    assert m["type"] == "error" and m["payload"]["code"] == "no_access"
    await share(belayd, "subs-1", "ann2", "view")
    assert (await c.ask("subscribe", {"devices": ["subs-1"]}))["type"] == "ok"
    await c.close()


class Noise:
    """A device that tells telemetry, a state and an event every few milliseconds."""

    def __init__(self, client, every=0.01):
        self.client, self.every = client, every

    async def __aenter__(self):
        self.task = asyncio.ensure_future(self.run())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()

    async def run(self):
        i = 0
        while True:
            i += 1
            await self.client.send("telemetry", {"data": {"i": i}})
            await self.client.send("status", {"i": i})
            await self.client.send("event", {"event": "x_n", "data": {"i": i}})
            await asyncio.sleep(self.every)


NOISE = ("telemetry", "device_status", "device_event", "command_status")


async def last_heard(client, until):
    """When the last message of the device came, reading until a time."""
    last = 0
    while (left := until - time.monotonic()) > 0:
        try:
            m = await client.recv(left)
        except asyncio.TimeoutError:
            break
        if m["type"] in NOISE:
            last = time.monotonic()
    return last


async def test_withdrawn_shares_end_on_open_connections(start):
    """Sixty viewers at two gateways: from the answer on, none of them hears anything more; how long it took is measured."""
    belayd = start({"limits.message_rate": 100000, "limits.message_burst": 100000}, workers=2)
    bdt = await belayd.register("rv-1")
    device = await belayd.device("rv-1", bdt)
    users = [f"viewer{i}" for i in range(60)]
    for u in users + ["keeps"]:
        await share(belayd, "rv-1", u, "control")
    viewers = [await belayd.user(u) for u in users]
    keeps = await belayd.user("keeps")
    async with Noise(device, 0.05):
        for v in viewers:
            await v.expect("telemetry")
            await v.expect("device_event")
        gone = {}

        async def withdraw(i):
            await unshare(belayd, "rv-1", users[i])
            gone[i] = time.monotonic()

        readers = [asyncio.ensure_future(last_heard(v, time.monotonic() + 1.8)) for v in viewers]
        await asyncio.sleep(0.3)        # they hear it all
        await asyncio.gather(*[withdraw(i) for i in range(60)])
        last = await asyncio.gather(*readers)
        lags = [max(0, l - gone[i]) for i, l in enumerate(last)]
        assert all(last) and max(lags) < 1, max(lags)
        print(f"lag: median {statistics.median(lags) * 1000:.1f} ms, worst {max(lags) * 1000:.1f} ms")
        keeps.kept.clear()
        await keeps.expect("telemetry")
        for v in viewers[:5]:
            assert (await v.ask("ping"))["type"] == "pong", "the connection itself stays"
    assert await belayd.metric("belay_revocation_lag_seconds_count") >= 60
    assert await belayd.metric('belay_revocation_lag_seconds_bucket{le="1.000000"}') == await belayd.metric("belay_revocation_lag_seconds_count")
    for v in viewers:
        await v.close()
    await keeps.close()
    await device.close()


async def test_a_command_of_a_withdrawn_share(belayd):
    """Who asked for it hears of it for as long as it may view the device, and not of its result later."""
    device = await belayd.device("cw-1", await belayd.register("cw-1"))
    owner, ann = await belayd.user(), await belayd.user("ann")
    await share(belayd, "cw-1", "ann", "control")
    command = (await ann.ask("command", {"deviceId": "cw-1", "command": "slow"}))["payload"]
    await device.ask("command_ack", {"commandId": command["commandId"], "status": "accepted"})
    assert (await ann.expect("command_status"))["payload"]["status"] == "accepted"
    await unshare(belayd, "cw-1", "ann")
    await device.ask("command_ack", {"commandId": command["commandId"], "status": "executed", "result": "secret"})
    await owner.expect("command_status", where=lambda m: m["payload"]["status"] == "executed")
    await ann.nothing("command_status", 0.1)
    assert (await belayd.rest("GET", f"/api/command/{command['commandId']}", bearer=token("ann")))[0] == 403
    for c in (device, owner, ann):
        await c.close()


async def test_expired_shares_end_on_open_connections(start):
    belayd = start({"limits.message_rate": 100000, "limits.message_burst": 100000})
    bdt = await belayd.register("ex-1")
    device = await belayd.device("ex-1", bdt)
    await run_device(device)
    end = time.monotonic() + 1.5
    await share(belayd, "ex-1", "ann", "control", expiresAt=at(1.5))
    ann = await belayd.user("ann")
    status, _ = await belayd.rest("POST", "/api/command", {"deviceId": "ex-1", "command": "x"}, token("ann"))
    assert status == 202
    async with Noise(device):
        await ann.expect("telemetry")
        last = await last_heard(ann, end + 1.5)
    assert end - 0.3 < last < end + 1, last - end
    for method, path, body in (("GET", "/api/device/ex-1", None), ("GET", "/api/device/ex-1/events", None),
                               ("POST", "/api/command", {"deviceId": "ex-1", "command": "x"})):
        assert (await belayd.rest(method, path, body, token("ann")))[0] == 403
    m = await ann.ask("command", {"deviceId": "ex-1", "command": "x"})
    assert m["payload"]["code"] == "no_access"
    m = await ann.ask("subscribe", {"devices": ["ex-1"]})
    assert m["payload"]["code"] == "no_access"
    for path, name in (("/api/device", "devices"), ("/api/events", "events"), ("/api/visitor", "visitors")):
        _, body = await belayd.rest("GET", path, bearer=token("ann"))
        assert body[name] == []
    await ann.close()
    await device.close()


async def test_rotation_and_deletion_end_connections(start):
    """Twenty devices each: their connections end within a second of the answer, and measured by the server too."""
    belayd = start(workers=2)
    lags = []
    for what in ("token", "delete"):
        devices = {}
        for i in range(20):
            bdt = await belayd.register(f"{what}-{i}")
            devices[f"{what}-{i}"] = (bdt, await belayd.device(f"{what}-{i}", bdt))

        async def revoke(name, bdt, client):
            closed = asyncio.ensure_future(client.closed())
            if what == "token":
                status, _ = await belayd.rest("POST", f"/api/device/{name}/token")
            else:
                status, _ = await belayd.rest("DELETE", f"/api/device/{name}")
            answered = time.monotonic()
            assert status in (200, 204)
            with pytest.raises(Refused):
                await belayd.device(name, bdt)
            assert await closed == (4011, "Credentials revoked")
            lags.append(time.monotonic() - answered)

        await asyncio.gather(*[revoke(n, *d) for n, d in devices.items()])
    assert max(lags) < 1
    assert await belayd.metric("belay_revocation_lag_seconds_count") == 40


async def test_tenant_members_may_view(start):
    belayd = start({"auth.tenant_members": "view"})
    bdt = await belayd.register("tm-1")
    await share(belayd, "tm-1", "ctl", "control")
    member, foreign = await belayd.user("member"), await belayd.user("member", "t2")
    device = await belayd.device("tm-1", bdt)
    await run_device(device)
    assert (await member.expect("device_connected"))["payload"]["deviceId"] == "tm-1"
    await device.send("telemetry", {"data": {"t": 1}})
    await member.expect("telemetry")
    await device.send("visitor", {"name": "Ann"})
    await member.nothing("new_visitor", 0.1)            # not to those who may only view
    _, body = await belayd.rest("GET", "/api/device/tm-1", bearer=token("member"))
    assert body["userPermissions"] == ["view"]
    _, body = await belayd.rest("GET", "/api/device", bearer=token("member"))
    assert [d["deviceId"] for d in body["devices"]] == ["tm-1"]
    for method, path, send in (("POST", "/api/command", {"deviceId": "tm-1", "command": "x"}), ("PUT", "/api/device/tm-1", {"name": "x"}),
                               ("GET", "/api/device/tm-1/share", None), ("DELETE", "/api/device/tm-1", None)):
        assert (await belayd.rest(method, path, send, token("member")))[0] == 403
    _, body = await belayd.rest("GET", "/api/device/tm-1", bearer=token("ctl"))
    assert body["userPermissions"] == ["view", "control"]
    assert (await belayd.rest("GET", "/api/device/tm-1", bearer=token("member", "t2")))[0] == 404
    await foreign.nothing("telemetry", 0.05)
    for c in (member, foreign, device):
        await c.close()


async def test_tenant_members_by_reload(start, tmp_path):
    """A reload that gives or takes the view of the tenant is felt on connections that are open."""
    conf = tmp_path / "members.conf"
    conf.write_text('auth: { tenant_members = "view"; };\n')
    belayd = start(args=["-c", str(conf)])
    bdt = await belayd.register("rl-1")
    member, owner, admin = await belayd.user("member"), await belayd.user(), await belayd.user("boss", role="admin")
    device = await belayd.device("rl-1", bdt)
    await member.expect("device_connected")

    async def hears():
        await device.send("event", {"event": "x_n"}, "e")
        await device.expect("ok")
        for c in (owner, admin):
            await c.expect("device_event")
        await member.ask("ping")
        heard = [m for m in member.kept if m["type"] == "device_event"]
        member.kept.clear()
        return bool(heard)

    assert await hears()
    for value, expected in (("none", False), ("view", True)):
        reloads = await belayd.metric("belay_reloads_total")
        conf.write_text(f'auth: {{ tenant_members = "{value}"; }};\n')
        belayd.process.send_signal(signal.SIGHUP)
        workers = len(belayd.workers())
        await eventually(lambda: reloaded(belayd, reloads + workers))
        assert await hears() == expected
    for c in (member, owner, admin, device):
        await c.close()


async def reloaded(belayd, count):
    return await belayd.metric("belay_reloads_total") >= count


async def test_admins_see_their_tenant(belayd):
    bdt = await belayd.register("ad-1", token("somebody", "t9"))
    admin, org, plain, foreign = [await belayd.user(*u) for u in (("boss", "t9", "admin"), ("boss2", "t9", "org:admin"), ("p", "t9"), ("boss", "t8", "admin"))]
    device = await belayd.device("ad-1", bdt)
    for c in (admin, org):
        await c.expect("device_connected")
    assert (await belayd.rest("GET", "/api/device/ad-1", bearer=token("boss", "t9", "admin")))[1]["userPermissions"] == ["view", "control", "admin"]
    # The same connection with a token that no longer says admin.
    assert (await admin.ask("auth", {"token": token("boss", "t9")}))["type"] == "ok"
    await device.send("telemetry", {"data": {}})
    await org.expect("telemetry")
    for c in (admin, plain, foreign):
        await c.nothing("telemetry", 0.05)
    assert (await admin.ask("auth", {"token": token("boss", "t9", "admin")}))["type"] == "ok"
    await device.send("telemetry", {"data": {}})
    await admin.expect("telemetry")
    for c in (admin, org, plain, foreign, device):
        await c.close()
