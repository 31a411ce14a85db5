"""Counters that move in no other scenario: each in the situation that it is for."""

from belay import eventually
from fleet import stopped, taken_by

BLOB = "x" * 3000


async def test_telemetry_that_a_gateway_does_not_get(start):
    """Its mailbox is full: the viewers there miss some, it is counted, and everybody else goes on."""
    daemon = start({"memory.mailbox": "64K", "limits.message_burst": 1000, "server.hang_time": "10m"})
    bdt = await daemon.register("d1")
    with taken_by(daemon, "gateway 2"):
        viewer = await daemon.user()
    with taken_by(daemon, "gateway 1"):
        device = await daemon.device("d1", bdt)

    async def lost():
        await device.send("telemetry", {"data": {"blob": BLOB}})
        return await daemon.metric("belay_telemetry_lost_total")

    with stopped(daemon.workers()["gateway 2"]):
        await eventually(lost)
        assert (await device.ask("ping"))["type"] == "pong"
    await viewer.expect("telemetry")
    assert (await viewer.ask("ping"))["type"] == "pong"
