"""Lists of events in both directions."""

from urllib.parse import quote

import pytest

from belay import token

ADMIN = token("boss", role="admin")
NAMES = [f"x_{n}" for n in range(7)]


@pytest.fixture(scope="module")
async def told(belayd):
    """Devices of two owners, and what they told in turns."""
    devices = []
    for owner in ("u1", "u2"):
        secret = await belayd.register(f"order-{owner}", token(owner))
        devices.append(await belayd.device(f"order-{owner}", secret))
    for name in NAMES:
        for device in devices:
            assert (await device.ask("event", {"event": name}))["type"] == "ok"
    return belayd


async def listed(belayd, path, bearer, **query):
    """The whole list, in pages of 3, as (device, event)."""
    out, cursor = [], None
    while True:
        more = "".join(f"&{k}={quote(v)}" for k, v in query.items()) + (f"&cursor={cursor}" if cursor else "")
        status, body = await belayd.rest("GET", f"{path}?limit=3{more}", bearer=bearer)
        assert status == 200, body
        assert len(body["events"]) <= 3
        out += [(e["deviceId"], e["event"], e["cursor"]) for e in body["events"]]
        cursor = body["nextCursor"]
        if cursor is None:
            return out


@pytest.mark.parametrize("path, bearer", [("/api/device/order-u1/events", None), ("/api/events", None), ("/api/events", ADMIN)],
                         ids=["device", "user", "admin"])
async def test_the_oldest_come_first_with_order(told, path, bearer):
    newest = await listed(told, path, bearer)
    assert await listed(told, path, bearer, order="desc") == newest
    oldest = await listed(told, path, bearer, order="asc")
    assert oldest == newest[::-1]
    assert [event for device, event, _ in oldest if device == "order-u1" and event.startswith("x_")] == NAMES


async def test_order_goes_with_filters_and_cursors(told):
    path = "/api/device/order-u1/events"
    assert [e for _, e, _ in await listed(told, path, None, order="asc", type="x_3")] == ["x_3"]
    place = next(c for _, e, c in await listed(told, path, None) if e == "x_4")
    for order, event in (("asc", "x_5"), ("desc", "x_3")):
        _, body = await told.rest("GET", f"{path}?order={order}&limit=1&cursor={place}")
        assert [e["event"] for e in body["events"]] == [event]


async def test_until_is_not_part_of_its_time(told):
    """since is, so that two spans that meet show each event once."""
    path = "/api/device/order-u1/events"
    _, body = await told.rest("GET", f"{path}?type=x_3")
    at = body["events"][0]["at"]
    before = {e for _, e, _ in await listed(told, path, None, until=at)}
    after = {e for _, e, _ in await listed(told, path, None, since=at)}
    assert "x_3" in after and "x_3" not in before
    assert set(NAMES) <= before | after and not before & after & set(NAMES)


async def test_other_orders_are_refused(told):
    status, body = await told.rest("GET", "/api/events?order=up")
    assert (status, body["error"]["code"], body["error"]["field"]) == (422, "invalid_payload", "order")
