"""The wall clock is set while an instance runs, as NTP does after a boot with a wrong clock: what was to last for a while lasts as long all
the same.  The clock is set for belayd alone, by a library that it is started with.
"""

import asyncio
import os
import shlex
import shutil
import subprocess
import time

import pytest

import belay
from belay import eventually
from fleet import SANITIZED, kill

# CLOCK_REALTIME is what the kernel says and the milliseconds that stand in a file that all processes have mapped.
LIBRARY = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long *set_by_ms;

__attribute__((constructor)) static void
begin(void)
{
	int fd = open(getenv("TEST_CLOCK"), O_RDONLY | O_CLOEXEC);
	void *at = mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);

	if (fd == -1 || at == MAP_FAILED)
		_exit(99);
	set_by_ms = at;
	close(fd);
}

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	int ret = (int)syscall(SYS_clock_gettime, id, ts);

	if (ret == 0 && id == CLOCK_REALTIME && set_by_ms != NULL) {
		long long ns = ts->tv_sec * 1000000000LL + ts->tv_nsec + *set_by_ms * 1000000LL;

		ts->tv_sec = ns / 1000000000;
		ts->tv_nsec = ns % 1000000000;
	}
	return ret;
}
"""
HOUR_MS = 3600_000
CC = shlex.split(os.environ.get("CC", "cc"))

pytestmark = [
    pytest.mark.skipif(shutil.which(CC[0]) is None, reason="no C compiler for the library that sets the clock"),
]


@pytest.fixture
def clocked(start, tmp_path):
    """A belayd, and a function that sets its wall clock by so many milliseconds from what it is."""
    (tmp_path / "clock.c").write_text(LIBRARY)
    library, clock = tmp_path / "clock.so", tmp_path / "clock"
    subprocess.run([*CC, "-shared", "-fPIC", "-O1", "-o", library, tmp_path / "clock.c"], check=True)
    clock.write_bytes(bytes(8))
    env = {"LD_PRELOAD": str(library), "TEST_CLOCK": str(clock)}
    if SANITIZED:
        env["ASAN_OPTIONS"] = os.environ["ASAN_OPTIONS"] + ":verify_asan_link_order=0"
    daemon = start(env=env)

    def set_by(ms):
        with open(clock, "r+b") as f:
            f.write(ms.to_bytes(8, "little", signed=True))

    return daemon, set_by


async def order(daemon, **more):
    status, body = await daemon.rest("POST", "/api/command", {"deviceId": "door", "command": "x", **more}, belay.token(ttl=90000))
    assert status == 202, body
    return body["command"]["commandId"]


async def status_of(daemon, id):
    return (await daemon.rest("GET", f"/api/command/{id}", bearer=belay.token(ttl=90000)))[1]["command"]["status"]


@pytest.mark.parametrize("killed", [False, True])
async def test_queue_time_when_the_clock_is_set_back(clocked, killed):
    """Five seconds are over after five seconds, also when storage was killed before it could look at its clock."""
    daemon, set_by = clocked
    bdt = await daemon.register("door", belay.token(ttl=90000))
    until = time.monotonic() + 5
    id, stays = await order(daemon, queueMs=5000), await order(daemon, queueMs=HOUR_MS, params={"n": 1})
    set_by(-HOUR_MS)
    if killed:
        await kill(daemon, "storage 1")

    async def expired():
        return await status_of(daemon, id) == "expired"

    await eventually(expired)
    assert time.monotonic() > until - 0.1
    device = await daemon.device("door", bdt)
    m = await device.expect("command")
    assert m["payload"]["commandId"] == stays
    await device.nothing("command")
    await device.close()


async def test_queue_time_when_the_clock_is_set_forward(clocked):
    """An hour that the clock was set by is none that passed; what comes after it has its own time."""
    daemon, set_by = clocked
    bdt = await daemon.register("door")
    id = await order(daemon, queueMs=600_000)
    set_by(HOUR_MS)
    assert await status_of(daemon, id) == "queued"
    after = await order(daemon, queueMs=600_000, onlyIf={"seenWithinMs": 60_000})
    # Behind a tick of storage's own.
    await asyncio.sleep(0.3)
    assert await status_of(daemon, id) == await status_of(daemon, after) == "queued"
    device = await daemon.device("door", bdt)
    assert [(await device.expect("command"))["payload"]["commandId"] for _ in range(2)] == [id, after]
    _, body = await daemon.rest("GET", "/api/device/door", bearer=belay.token(ttl=90000))
    assert body["device"]["presence"]["status"] == "online"
    # It never got it: its time goes on, whatever the clock says now.
    set_by(2 * HOUR_MS)
    await device.send("command_ack", {"commandId": id, "status": "unknown"})
    m = await device.expect("command")
    assert m["payload"]["commandId"] == id and m["payload"]["attempt"] == 2
    await device.close()


async def test_ticket_and_key_when_the_clock_is_set(clocked):
    daemon, set_by = clocked
    await daemon.register("door")
    bearer = belay.token("bob", ttl=400_000)
    _, one = await daemon.rest("POST", "/api/ticket", bearer=bearer)
    first = await order(daemon, queueMs=60_000, idempotencyKey="k")
    set_by(25 * HOUR_MS)
    client = await daemon.open(f"/ws?ticket={one['ticket']}")
    await client.close()
    _, body = await daemon.rest("POST", "/api/command", {"deviceId": "door", "command": "x", "queueMs": 60_000, "idempotencyKey": "k"},
                                belay.token(ttl=400_000))
    assert body["command"]["commandId"] == first, body


async def test_nobody_is_given_up_when_the_clock_is_set(clocked):
    """What is asked while it is set is answered, and nobody is thought silent."""
    daemon, set_by = clocked
    device = await daemon.device("door", await daemon.register("door"))
    for n, by in enumerate((HOUR_MS // 2, 0, -HOUR_MS, 0)):
        set_by(by)
        assert (await device.ask("heartbeat"))["type"] == "heartbeat_ack"
        id = await order(daemon, params={"n": n})
        assert (await device.expect("command"))["payload"]["commandId"] == id
        assert (await device.ask("command_ack", {"commandId": id, "status": "executed"}))["type"] == "ok"
        assert (await device.ask("event", {"event": "x_e"}))["type"] == "ok"
    assert await daemon.metric("belay_worker_deaths_total") == 0
    await device.close()
