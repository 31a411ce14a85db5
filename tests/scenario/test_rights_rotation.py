"""A device's new token without a technician: graceMs, token_rotate, and when the old one ends (protocol sections 3.1 and 6)."""

import os
import signal

import pytest

from belay import Refused, token


async def rotate(belayd, id, bearer=None, **body):
    status, answer = await belayd.rest("POST", f"/api/device/{id}/token", body or None, bearer)
    assert status == 200, answer
    return answer["deviceToken"]


async def refused(belayd, id, bdt):
    with pytest.raises(Refused) as r:
        await belayd.device(id, bdt)
    return (r.value.code, r.value.reason) == (1008, "Invalid token")


async def alive(c):
    return (await c.ask("ping"))["type"] == "pong"


async def test_at_once(belayd):
    old = await belayd.register("r-1")
    c = await belayd.device("r-1", old)
    new = await rotate(belayd, "r-1")
    assert await c.closed() == (4011, "Credentials revoked")
    assert await refused(belayd, "r-1", old)
    c = await belayd.device("r-1", new)
    newer = await rotate(belayd, "r-1", graceMs=0)
    assert (await c.closed())[0] == 4011 and await refused(belayd, "r-1", new)
    await belayd.device("r-1", newer)


async def test_until_the_new_one_was_used(belayd):
    old = await belayd.register("r-2")
    first = await belayd.device("r-2", old)
    new = await rotate(belayd, "r-2", graceMs=3600000)
    assert await alive(first)
    again = await belayd.device("r-2", old)		# asleep, and back with what it knows
    assert (await first.closed())[0] == 4009
    c = await belayd.device("r-2", new)
    assert (await again.closed())[0] == 4009
    assert await refused(belayd, "r-2", old) and await alive(c)


async def test_until_its_time_is_over(belayd):
    """Whether anybody asks or not, its connection ends then."""
    old = await belayd.register("r-3")
    c = await belayd.device("r-3", old)
    new = await rotate(belayd, "r-3", graceMs=1000)
    assert await alive(c)
    assert await c.closed() == (4011, "Credentials revoked")
    assert await refused(belayd, "r-3", old)
    await belayd.device("r-3", new)


async def test_its_time_is_over_while_storage_is_dead(start):
    daemon = start()
    old = await daemon.register("r-4")
    c = await daemon.device("r-4", old)
    await rotate(daemon, "r-4", graceMs=500)
    [pid] = daemon.workers("storage").values()
    os.kill(pid, signal.SIGKILL)
    assert (await c.closed())[0] == 4011
    assert await refused(daemon, "r-4", old)


async def test_a_device_rotates_by_itself(belayd):
    old = await belayd.register("r-5")
    owner = await belayd.user()
    c = await belayd.device("r-5", old)
    answer = await c.ask("token_rotate")
    assert answer["type"] == "ok" and list(answer["payload"]) == ["deviceToken"], answer
    new = answer["payload"]["deviceToken"]
    assert (await owner.expect("device_event", where=lambda m: m["payload"]["event"] == "token_rotated"))["payload"]["deviceId"] == "r-5"
    assert await alive(c)
    c = await belayd.device("r-5", old)			# it was not stored in time
    assert (await c.ask("auth", {"token": old}))["type"] == "ok"
    assert (await c.ask("auth", {"token": new}))["type"] == "ok"		# in place
    assert await alive(c)
    assert await refused(belayd, "r-5", old)
    await c.send("token_rotate")				# without an id it is answered all the same
    assert (await c.expect("ok"))["payload"]["deviceToken"].startswith("bdt_")
    status, body = await belayd.rest("GET", "/api/device/r-5/events?type=token_rotated")
    assert [e["actor"] for e in body["events"]] == [None, None]


async def test_answers_that_were_lost(belayd):
    """Asked again and again: what the device uses stays good, and so does the newest of those that it may have."""
    used = await belayd.register("r-6")
    c = await belayd.device("r-6", used)
    made = [(await c.ask("token_rotate"))["payload"]["deviceToken"] for _ in range(5)]
    for bdt in made[:-2]:
        assert await refused(belayd, "r-6", bdt)
    await belayd.device("r-6", used)
    await belayd.device("r-6", made[-2])		# used for the first time: what is older is done with
    assert await refused(belayd, "r-6", used)
    await belayd.device("r-6", made[-2])
    await belayd.device("r-6", made[-1])
    assert await refused(belayd, "r-6", made[-2])


async def test_an_old_token_ends_with_the_next_rotation_or_the_device(belayd):
    old = await belayd.register("r-7")
    new = await rotate(belayd, "r-7", graceMs=3600000)
    newest = await rotate(belayd, "r-7")
    assert await refused(belayd, "r-7", old) and await refused(belayd, "r-7", new)
    await rotate(belayd, "r-7", graceMs=3600000)
    assert (await belayd.rest("DELETE", "/api/device/r-7"))[0] == 204
    assert await refused(belayd, "r-7", newest)
    await belayd.register("r-7")
    assert await refused(belayd, "r-7", newest)


async def test_bad_requests(belayd):
    bdt = await belayd.register("r-8")
    for bad in ({"graceMs": -1}, {"graceMs": "1h"}, {"graceMs": 2592000001}, {"graceMs": 1.5}):
        status, body = await belayd.rest("POST", "/api/device/r-8/token", bad)
        assert status == 422 and body["error"]["field"] == "graceMs", body
    assert (await belayd.rest("POST", "/api/device/r-8/token", {"graceMs": 1}, token("nobody")))[0] == 403
    await belayd.device("r-8", bdt)
    u = await belayd.user()
    assert (await u.ask("token_rotate"))["payload"]["code"] == "unknown_type"
