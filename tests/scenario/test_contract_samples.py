"""What a device measured while it had no connection: many samples in one message."""

import itertools

import pytest

from belay import eventually

SETTINGS = {"store.telemetry_retention": "1d"}
numbers = itertools.count()
TIMES = [f"2026-01-31T12:{n // 60:02}:{n % 60:02}.000Z" for n in range(500)]


@pytest.fixture
async def pair(belayd):
    """A device of a name of its own, and its owner, who watches it alone."""
    name = f"s{next(numbers)}"
    device = await belayd.device(name, await belayd.register(name))
    viewer = await belayd.user()
    assert (await viewer.ask("subscribe", {"devices": [name]}))["type"] == "ok"
    yield name, device, viewer
    await device.close()
    await viewer.close()


async def stored(belayd, name):
    _, body = await belayd.rest("GET", f"/api/device/{name}/telemetry?limit=500")
    return [(t["at"], t["data"]) for t in body["telemetry"]]


async def test_each_is_shown_and_stored(belayd, pair):
    """As many as may be; with escapes, since a text may be written so."""
    name, device, viewer = pair
    samples = [{"at": at, "data": {"n": n}} for n, at in enumerate(TIMES)]
    samples[1] = {"d\\u0061ta": {"n": 1}, "at": TIMES[1].replace("T", "\\u0054")}
    text = str(samples).replace("'", '"').replace("\\\\", "\\")
    await device.ws.send('{"type":"telemetry","id":"\\u0061","payload":{"samples":%s}}' % text)
    answer = await device.recv()
    assert (answer["type"], answer["re"]) == ("ok", "a"), answer
    for n, at in enumerate(TIMES):
        shown = (await viewer.expect("telemetry"))["payload"]
        assert shown == {"deviceId": name, "epoch": 1, "at": at, "data": {"n": n}}

    async def all_there():
        return len(await stored(belayd, name)) == 500
    await eventually(all_there)
    assert await stored(belayd, name) == [(at, {"n": n}) for n, at in reversed(list(enumerate(TIMES)))]


async def test_without_a_time_it_is_now(pair):
    _, device, viewer = pair
    assert (await device.ask("telemetry", {"samples": [{"data": {"n": 1}}, {"at": None, "data": {"n": 2}}], "data": None}))["type"] == "ok"
    assert [(await viewer.expect("telemetry"))["payload"]["data"] for _ in range(2)] == [{"n": 1}, {"n": 2}]


GOOD = {"data": {}}


@pytest.mark.parametrize("payload, field", [
    ({}, "data"),
    ({"samples": None}, "data"),
    ({"data": {}, "samples": [GOOD]}, "samples"),
    ({"samples": {}}, "samples"),
    ({"samples": []}, "samples"),
    ({"samples": [GOOD] * 501}, "samples"),
    ({"samples": [GOOD, 7]}, "samples[1]"),
    ({"samples": [GOOD, None]}, "samples[1]"),
    ({"samples": [GOOD, GOOD, {}]}, "samples[2].data"),
    ({"samples": [{"data": []}]}, "samples[0].data"),
    ({"samples": [{"data": None}]}, "samples[0].data"),
    ({"samples": [GOOD, {"data": {}, "at": "yesterday"}]}, "samples[1].at"),
    ({"samples": [{"data": {}, "at": 7}]}, "samples[0].at"),
], ids=lambda v: v if isinstance(v, str) else "")
async def test_one_that_is_wrong_and_none_is_taken(pair, payload, field):
    _, device, viewer = pair
    answer = await device.ask("telemetry", payload)
    assert (answer["type"], answer["payload"]["code"]) == ("error", "invalid_payload")
    assert answer["payload"]["field"] == f"payload.{field}"
    await device.ask("telemetry", {"data": {"last": True}})
    assert (await viewer.expect("telemetry"))["payload"]["data"] == {"last": True}


@pytest.mark.parametrize("settings", [
    {"limits.message_rate": 1, "limits.message_burst": 60},
    {"limits.tenant_message_rate": 1, "limits.tenant_message_burst": 60},
], ids=["of the device", "of its tenant"])
async def test_ten_count_as_one_message(start, settings):
    """They pass, and what follows waits."""
    belayd = start(settings)
    device = await belayd.device("d1", await belayd.register("d1"))
    many = {"samples": [GOOD] * 500}
    assert (await device.ask("telemetry", many))["type"] == "ok"
    assert (await device.ask("telemetry", many))["type"] == "ok"
    answer = await device.ask("telemetry", many)
    assert (answer["type"], answer["payload"]["code"]) == ("error", "rate_limited")
    assert answer["payload"]["retryAfterMs"] > 0
