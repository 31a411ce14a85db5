"""The disk of the store is full, or nearly: who asks is told at once and why, and what was refused does not happen later."""

import asyncio
import os

import pytest

from belay import BUILD, PATIENCE, clean_environment, eventually, token
from test_faults import FAST, events, fill, is_ready, needs_root, small_disk, until_full


async def probe(daemon):
    """What belayctl says: (exit status, output)."""
    p = await asyncio.create_subprocess_exec(
        str(BUILD / "belayctl"), "probe", daemon.url + "/ws", stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=clean_environment(BELAY_TOKEN=token()))
    out, _ = await asyncio.wait_for(p.communicate(), PATIENCE)
    return p.returncode, out.decode()


@needs_root
async def test_ready_says_that_the_disk_is_full(start):
    """Small writes go on for a while on a disk that refuses larger ones: that is not ready, before the first one was refused."""
    with small_disk("4m") as disk:
        daemon = start({**FAST, "store.url": f"sqlite://{disk}/belay.db"})
        try:
            assert await is_ready(daemon)
            code, out = await probe(daemon)
            assert code == 0 and "not ready" not in out, out
            filler = fill(disk)
            os.truncate(filler, filler.stat().st_size - 100_000)
            status, body = await daemon.rest("GET", "/health/ready", bearer="")
            assert status == 503 and body["error"]["code"] == "unavailable", body
            why = body["error"]["message"]
            assert f"{disk}/belay.db" in why and "full" in why and " KiB of 4096 KiB are free" in why, why
            _, body = await daemon.rest("GET", "/api/health/detailed")
            assert body["store"]["status"] == "down" and "full" in body["store"]["message"], body
            code, out = await probe(daemon)
            assert code != 0 and "FAIL  the server is not ready: " in out, out
            assert f"{disk}/belay.db" in out and "KiB are free" in out, out
            assert await daemon.metric("belay_store_errors_total") == 0
            filler.unlink()
            await eventually(lambda: is_ready(daemon))
        finally:
            daemon.stop()


@pytest.mark.long
@needs_root
async def test_what_was_refused_is_not_stored_later(start):
    """A device that waits for the answer and is told "unavailable" will say it again: it must not be there twice."""
    with small_disk("4m") as disk:
        daemon = start({**FAST, "store.url": f"sqlite://{disk}/belay.db"})
        try:
            device, user = await daemon.device("d1", await daemon.register("d1")), await daemon.user()
            filler = fill(disk)
            await until_full(user, "d1")
            big = {"x": "y" * 30000}
            await device.send("event", {"event": "x_kept", "data": big})
            await device.send("event", {"event": "x_refused", "data": big}, "event")
            await device.send("visitor", {"name": "refused", "data": big}, "visitor")
            for _ in range(2):
                m = await device.expect("error")
                assert m["re"] in ("event", "visitor") and m["payload"]["code"] == "unavailable", m
            filler.unlink()
            await eventually(lambda: is_ready(daemon))
            # Behind all that was kept.
            assert (await device.ask("event", {"event": "x_refused", "data": big}))["type"] == "ok"
            assert len(await events(daemon, "d1", "x_refused")) == 1
            assert len(await events(daemon, "d1", "x_kept")) == 1
            _, body = await daemon.rest("GET", "/api/visitor")
            assert body["visitors"] == []
            for c in (device, user):
                await c.close()
        finally:
            daemon.stop()
