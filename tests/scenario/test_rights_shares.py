"""Shares: nobody gives more than they have, and a share that runs out is told and gone, asked or not (protocol section 6)."""

import os
import signal
from datetime import datetime, timedelta, timezone

import pytest

from belay import eventually, token


def at(seconds):
    t = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return t.strftime("%Y-%m-%dT%H:%M:%S.") + f"{t.microsecond // 1000:03}Z"


async def give(belayd, device, user, permission, bearer=None, **more):
    status, body = await belayd.rest("POST", f"/api/device/{device}/share", {"userId": user, "permission": permission, **more}, bearer)
    assert status in (201, 403), body
    return status == 201


async def shares(belayd, device, bearer=None):
    status, body = await belayd.rest("GET", f"/api/device/{device}/share", bearer=bearer)
    assert status == 200, body
    return {s["userId"]: s for s in body["shares"]}


NAMES = ["unlock_door", "lock_door"]


@pytest.mark.parametrize("to", ["ann", "other"])
async def test_nobody_gives_more_than_they_have(belayd, to):
    """Neither to others nor to herself; what lies within her own share she may give."""
    id = f"more-{to}"
    await belayd.register(id)
    ann, end = token("ann"), at(3600)
    assert await give(belayd, id, "ann", "admin", expiresAt=end, commands=NAMES)
    kept = await shares(belayd, id)
    for permission, more in (("admin", {}), ("admin", {"expiresAt": end}), ("admin", {"commands": NAMES}), ("control", {"expiresAt": at(3700), "commands": NAMES}),
                             ("control", {"expiresAt": end, "commands": [*NAMES, "reboot"]}), ("view", {}), ("view", {"expiresAt": at(7200), "commands": []}),
                             ("control", {"expiresAt": end, "commands": None})):
        assert not await give(belayd, id, to, permission, ann, **more), (permission, more)
        assert await shares(belayd, id) == kept, (permission, more)
    for permission, more in (("admin", {"expiresAt": end, "commands": NAMES}), ("control", {"expiresAt": end, "commands": NAMES[:1]}), ("view", {"expiresAt": at(60)})):
        if to != "ann":
            assert await give(belayd, id, to, permission, ann, **more), (permission, more)
    if to == "ann":		# smaller, and then there is no way back
        less = at(1800)
        assert await give(belayd, id, to, "admin", ann, expiresAt=less, commands=NAMES[:1])
        assert not await give(belayd, id, to, "admin", ann, expiresAt=end, commands=NAMES)
        assert await give(belayd, id, to, "view", ann, expiresAt=less)
        assert not await give(belayd, id, to, "admin", ann, expiresAt=less, commands=NAMES[:1])


async def test_who_gives_without_bounds(belayd):
    """The owner, the tenant's admin and back ends; and who has an admin's share of the whole."""
    await belayd.register("whole")
    assert await give(belayd, "whole", "bob", "admin")
    for bearer in (None, token("boss", role="admin"), token("svc", role="service"), token("bob")):
        assert await give(belayd, "whole", "carl", "admin", bearer, expiresAt=at(60), commands=["x"])
        assert await give(belayd, "whole", "carl", "admin", bearer)


async def test_a_share_that_runs_out(belayd):
    """It is told to whom it was given, gone from the list and from what is viewed; nobody asks for anything meanwhile."""
    bdt = await belayd.register("out-1")
    device = await belayd.device("out-1", bdt)
    ann, owner = await belayd.user("ann"), await belayd.user("u1")
    end = at(1.5)
    assert await give(belayd, "out-1", "ann", "view", expiresAt=end)
    await ann.expect("device_shared")
    assert (await ann.ask("subscribe", {"devices": ["out-1"]}))["type"] == "ok"
    told = (await ann.expect("device_unshared"))["payload"]
    assert told == {"deviceId": "out-1", "permission": "view", "by": None}
    assert at(0) >= end
    assert await shares(belayd, "out-1") == {}
    await device.ask("event", {"event": "x_after"})
    await owner.expect("device_event", where=lambda m: m["payload"]["event"] == "x_after")
    assert (await ann.ask("ping"))["type"] == "pong" and not [m for m in ann.kept if m["type"] == "device_event"], ann.kept
    _, body = await belayd.rest("GET", "/api/device", bearer=token("ann"))
    assert "out-1" not in [d["deviceId"] for d in body["devices"]]
    status, body = await belayd.rest("GET", "/api/device/out-1/events?type=device_unshared")
    assert [(e["actor"], e["data"]) for e in body["events"]] == [(None, {"userId": "ann", "permission": "view"})], body


async def test_many_run_out_at_once(belayd):
    """More than one step takes, and one that goes on."""
    await belayd.register("out-2")
    assert await give(belayd, "out-2", "stays", "control", expiresAt=at(3600))
    end = at(2)
    for n in range(70):
        assert await give(belayd, "out-2", f"guest{n}", "control", expiresAt=end)

    async def gone():
        _, body = await belayd.rest("GET", "/api/device/out-2/events?type=device_unshared&limit=200")
        return len(body["events"]) == 70
    await eventually(gone)
    assert list(await shares(belayd, "out-2")) == ["stays"]


async def test_a_killed_storage_takes_it_away_too(start):
    """Its end comes while no storage runs: the next one takes it away, once."""
    daemon = start()
    await daemon.register("out-3")
    ann = await daemon.user("ann")
    assert await give(daemon, "out-3", "ann", "view", expiresAt=at(1))
    [pid] = daemon.workers("storage").values()
    os.kill(pid, signal.SIGKILL)
    assert (await ann.expect("device_unshared"))["payload"]["by"] is None

    async def answered():
        status, body = await daemon.rest("GET", "/api/device/out-3/events?type=device_unshared")
        return status == 200 and len(body["events"]) == 1
    await eventually(answered)
