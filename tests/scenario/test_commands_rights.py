"""Each time a command is sent its requester must still have the right, and its condition must hold; who asked and who cancelled
is told."""

import datetime

import pytest

from belay import Belayd, PATIENCE, eventually, token

SHARE = {"userId": "guest", "permission": "control"}


@pytest.fixture(scope="module")
def belayd(tmp_path_factory):
    daemon = Belayd(tmp_path_factory.mktemp("rights"), store="memory:").start()
    yield daemon
    assert daemon.stop() == 0


class Door:
    def __init__(self, belayd, name, bdt):
        self.belayd, self.name, self.token, self.client = belayd, name, bdt, None

    async def connect(self):
        self.client = await self.belayd.device(self.name, self.token)
        return self.client

    async def share(self, **more):
        status, body = await self.belayd.rest("POST", f"/api/device/{self.name}/share", {**SHARE, **more})
        assert status == 201, body

    async def unshare(self):
        assert (await self.belayd.rest("DELETE", f"/api/device/{self.name}/share/guest"))[0] == 204

    async def order(self, bearer=None, **more):
        status, body = await self.belayd.rest("POST", "/api/command", {"deviceId": self.name, "command": "unlock_door", **more}, bearer)
        assert status == 202, body
        return body["command"]

    async def get(self, c):
        return (await self.belayd.rest("GET", f"/api/command/{c['commandId']}"))[1]["command"]

    async def failed(self, c, code, step="queued"):
        """It has failed unsent, and its device, which would have got it before another, never does."""
        async def ended():
            now = await self.get(c)
            return now if now["status"] != step else None

        c = await eventually(ended)
        assert (c["status"], c["outcome"], c["safeToRetry"]) == ("failed", "not_sent", True)
        assert c["error"]["code"] == code and c["trace"][-1]["step"] == "failed" and c["result"] is None
        after = await self.order(command="after")
        assert (await self.client.expect("command"))["payload"]["commandId"] == after["commandId"]
        return c


names = iter(range(1000))


@pytest.fixture
async def door(belayd):
    name = f"door-{next(names)}"
    door = Door(belayd, name, await belayd.register(name))
    yield door
    if door.client is not None:
        await door.client.close()


async def withdrawn(door):
    await door.unshare()


async def lowered(door):
    await door.share(permission="view")


async def narrowed(door):
    await door.share(commands=["ring"])


@pytest.mark.parametrize("end", [withdrawn, lowered, narrowed])
async def test_a_guest_whose_right_ends(door, end):
    await door.share()
    c = await door.order(token("guest"), queueMs=60000)
    assert c["status"] == "queued"
    await end(door)
    await door.connect()
    await door.failed(c, "no_access")
    _, body = await door.belayd.rest("GET", f"/api/device/{door.name}/events?type=command_failed")
    assert [e["data"]["error"]["code"] for e in body["events"]] == ["no_access"]


async def test_a_share_that_is_over(door):
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    await door.share(expiresAt=soon.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    c = await door.order(token("guest"), queueMs=60000)

    async def over():
        return (await door.belayd.rest("GET", f"/api/device/{door.name}", bearer=token("guest")))[0] == 403

    await eventually(over)
    await door.connect()
    await door.failed(c, "no_access")


async def test_while_it_waits_for_a_place(door):
    await door.share()
    device = await door.connect()
    first = [await door.order() for _ in range(32)]
    c = await door.order(token("guest"), queueMs=60000)
    assert c["status"] == "queued"
    await door.unshare()
    for n in first:
        await device.expect("command", where=lambda m: m["payload"]["commandId"] == n["commandId"])
        await device.send("command_ack", {"commandId": n["commandId"], "status": "executed"})
    await door.failed(c, "no_access")


async def test_sent_again(door):
    """The device never got it, and meanwhile its requester has lost the right."""
    await door.share()
    device = await door.connect()
    c = await door.order(token("guest"))
    assert (await device.expect("command"))["payload"]["commandId"] == c["commandId"]
    await door.unshare()
    assert (await device.ask("command_ack", {"commandId": c["commandId"], "status": "unknown"}))["type"] == "ok"
    c = await door.failed(c, "no_access", "sent")
    assert c["attempt"] == 1
    m = await device.ask("command_ack", {"commandId": c["commandId"], "status": "executed"})
    assert m["type"] == "error" and m["payload"]["code"] == "already_final"


async def test_a_condition_is_judged_again(door):
    device = await door.connect()

    async def state(**is_now):
        assert (await device.ask("status", is_now))["type"] == "ok"

    await state(door="closed")
    c = await door.order(onlyIf={"status.door": "closed"})
    for attempt in (1, 2):
        m = await device.expect("command")
        assert (m["payload"]["commandId"], m["payload"]["attempt"]) == (c["commandId"], attempt)
        if attempt == 2:
            await state(door="open")
        assert (await device.ask("command_ack", {"commandId": c["commandId"], "status": "unknown"}))["type"] == "ok"
    c = await door.failed(c, "precondition", "sent")
    assert c["attempt"] == 2


async def test_who_may_still(door, belayd):
    """Whoever asked and may still: it is sent, and the trace says who it was and as what."""
    await door.share()
    await door.share(userId="deputy", permission="admin")
    asked = []
    for bearer, by, right in ((token(), "u1", "owner"), (token("guest"), "guest", "control"), (token("deputy"), "deputy", "admin"),
                              (token("boss", role="admin"), "boss", "admin"), (token("app", role="service"), "app", "service"),
                              (belayd.service_key, None, "service")):
        more = {"tenantId": "t1"} if by is None else {}
        c = await door.order(bearer, queueMs=60000, **more)
        assert c["requestedBy"] == by or by is None
        assert c["trace"][0] == {"at": c["createdAt"], "step": "stored", "by": c["requestedBy"], "as": right}
        asked.append(c["commandId"])
    device = await door.connect()
    assert [(await device.expect("command"))["payload"]["commandId"] for _ in asked] == asked


async def test_who_cancelled(door):
    await door.share()
    c = await door.order(queueMs=60000)
    assert c["cancelledBy"] is None
    guest = await door.belayd.user("guest")
    status, body = await door.belayd.rest("DELETE", f"/api/command/{c['commandId']}", bearer=token("guest"))
    assert status == 200 and body["command"]["cancelledBy"] == "guest" and body["command"]["requestedBy"] == "u1"
    m = await guest.expect("command_status", where=lambda m: m["payload"]["status"] == "cancelled")
    assert m["payload"]["cancelledBy"] == "guest"
    step = (await door.get(c))["trace"][-1]
    assert (step["step"], step["by"]) == ("cancelled", "guest")
    _, body = await door.belayd.rest("GET", f"/api/device/{door.name}/events?type=command_cancelled")
    assert [e["actor"] for e in body["events"]] == ["guest"]
    # What is cancelled with its device is cancelled by whoever deletes that.
    c = await door.order(token("guest"), queueMs=60000)
    assert (await door.belayd.rest("DELETE", f"/api/device/{door.name}"))[0] == 204
    m = await guest.expect("command_status", where=lambda m: m["payload"]["status"] == "cancelled")
    assert (m["payload"]["commandId"], m["payload"]["cancelledBy"]) == (c["commandId"], "u1")
    await guest.close()


@pytest.mark.parametrize("given", ["jammed " * 7000, {"code": "E7", "message": "jammed " * 7000}], ids=["text", "object"])
async def test_a_long_error_is_an_answer(door, given):
    device = await door.connect()
    c = await door.order()
    await device.expect("command")
    assert (await device.ask("command_ack", {"commandId": c["commandId"], "status": "failed", "error": given}, PATIENCE))["type"] == "ok"
    c = await door.get(c)
    assert c["status"] == "failed" and c["error"]["message"] == "jammed " * 7000
