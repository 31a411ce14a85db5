"""All processes stand still for longer than one may hang, as in a frozen container: nobody is to blame, and nobody is killed."""

import asyncio
import os
import signal


async def test_the_whole_instance_stands_still(start):
    daemon = start({"server.hang_time": "2s"})
    device, user = await daemon.device("d1", await daemon.register("d1")), await daemon.user()
    workers = daemon.workers()
    for pid in (*workers.values(), daemon.process.pid):
        os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(4)
    # The master looks before any of them can give a sign.
    os.kill(daemon.process.pid, signal.SIGCONT)
    await asyncio.sleep(0.2)
    for pid in workers.values():
        os.kill(pid, signal.SIGCONT)
    assert (await user.ask("ping"))["type"] == "pong"
    assert (await device.ask("heartbeat"))["type"] == "heartbeat_ack"
    m = await user.ask("command", {"deviceId": "d1", "command": "x"})
    assert m["type"] == "command_status" and m["payload"]["status"] == "sent", m
    assert daemon.workers() == workers
    assert await daemon.metric("belay_worker_hangs_total") == 0
    assert await daemon.metric("belay_worker_deaths_total") == 0
    for c in (device, user):
        await c.close()
