#!/usr/bin/python3
"""torture.py: belayd under load while its processes are killed, for as long as one likes.

	TEST_BUILD=build tests/scenario/torture.py [--rounds N] [--seed N] [--devices N] [--controllers N] [--gateways N]

Each round kills one process with SIGKILL (each in turn; sometimes two at once, sometimes while the settings are read again),
stops one for a while, or kills the master or the whole instance and starts the next.  In the end every request that
was answered must be accounted for: stored, final, with an outcome that agrees with what the simulated devices did, run under
one id only, told once in the event log.  Exit status 0 when all that holds.  The seed, which is printed, decides what happens
in which round; when exactly is up to the machine.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import fleet  # noqa: E402
from belay import Belayd, eventually  # noqa: E402
from conftest import check_log  # noqa: E402
from fleet import Fleet, kill, kill_everything, kill_master  # noqa: E402


async def stop_for_a_while(daemon, name, seconds):
    pid = daemon.workers()[name]
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


async def one_round(daemon, rng, n, names):
    """What happens in this round; its name for the count."""
    victim = names[n % len(names)]
    others = [x for x in names if x != victim]
    chance = rng.random()
    if chance < 0.70:
        await kill(daemon, victim, 30)
        return "one process killed"
    if chance < 0.82:
        await asyncio.gather(kill(daemon, victim, 30), kill(daemon, rng.choice(others), 30))
        return "two processes killed at once"
    if chance < 0.87:
        daemon.process.send_signal(signal.SIGHUP)
        await kill(daemon, victim, 30)
        return "one process killed while all read the settings"
    if chance < 0.94:
        await stop_for_a_while(daemon, victim, 0.5)
        return "one process stopped for half a second"
    if chance < 0.97:
        await kill_master(daemon)
        return "the master killed and the next started at once"
    await kill_everything(daemon)
    return "the whole instance killed and started"


async def torture(options, folder):
    daemon = Belayd(folder, {"limits.message_rate": 100000, "limits.message_burst": 100000, "limits.requests_per_user": 0}, workers=options.gateways).start()
    world = Fleet(daemon, options.devices, options.controllers, 0.02, options.seed)
    print(f"seed {world.seed}, {options.gateways} gateways, {options.devices} devices, {options.controllers} controllers, {options.rounds} rounds")
    began = time.monotonic()
    kinds, slow = {}, 0.0
    first = {}
    try:
        await world.start()
        names = sorted(daemon.workers())
        for n in range(options.rounds):
            kind = await one_round(daemon, world.rng, n, names)
            kinds[kind] = kinds.get(kind, 0) + 1
            since, before = time.monotonic(), len(world.waits)
            await eventually(lambda: len(world.waits) >= before + options.progress)
            slow = max(slow, time.monotonic() - since)
            await asyncio.sleep(options.pause)
            for task in [d.task for d in world.devices] + [c.task for c in world.controllers]:
                if task.done():
                    task.result()
                    raise AssertionError("a client ended")
            if n == options.rounds // 4:
                first = {daemon.process.pid: fleet.pss(daemon.process.pid)}
            if (n + 1) % 10 == 0:
                print(f"round {n + 1}: {len(world.answered)} commands answered, {len(world.refused)} refused, {world.retries} asked again, "
                      f"{time.monotonic() - began:.0f} s", flush=True)
        await world.unload(120)
        truth = time.monotonic()
        await world.presence_is_true(10)
        truth = time.monotonic() - truth
        summary = await world.judge(120)
        deaths = await daemon.metric("belay_worker_deaths_total")
        for pid, bytes in first.items():
            if pid == daemon.process.pid and not fleet.SANITIZED:
                assert fleet.pss(pid) - bytes < 1 << 20, "the master grew"
        await world.stop()
        await world.nothing_is_left(20)
        assert await daemon.metric("belay_mailbox_skipped_total") == 0
        assert daemon.stop() == 0
    finally:
        if daemon.process is not None:
            daemon.process.kill()
            daemon.process.wait()
        check_log(daemon)
    db = sqlite3.connect(f"file:{folder}/belay.db?mode=ro", uri=True)
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()
    for name, value in {**summary, "rounds": kinds, "deaths since the last start": deaths, "slowest recovery (s)": round(slow, 2),
                        "presence was true after (s)": round(truth, 2), "seconds": round(time.monotonic() - began)}.items():
        print(f"{name}: {value}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--devices", type=int, default=16)
    parser.add_argument("--controllers", type=int, default=8)
    parser.add_argument("--gateways", type=int, default=4)
    parser.add_argument("--progress", type=int, default=10, help="requests answered before the next round")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between rounds; a process that dies within 10 s of its start is started later each time")
    parser.add_argument("--keep", action="store_true", help="keep the folder with database and log")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="belay-torture-"))
    try:
        asyncio.run(torture(options, folder))
    except BaseException:
        options.keep = True
        print(f"kept: {folder}", file=sys.stderr)
        raise
    finally:
        if not options.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
