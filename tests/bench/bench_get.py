#!/usr/bin/env python3
"""What a GET of a device costs: CPU of all processes of belayd for a request, and how long it takes.

    TEST_BUILD=$PWD/build /usr/bin/python3 tests/bench/bench_get.py [-n REQUESTS] [-c CONNECTIONS] [BUILD ...]

Each build's belayd serves as many keep-alive connections as said, each of which asks, waits for the answer and asks again.
The builds take turns, three rounds; one line of name=value pairs for each.
"""

import argparse
import asyncio
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "scenario"))
belay = importlib.import_module("belay")


def cpu_ns(daemon):
    """Of the master and its children, kernel included."""
    pids = [daemon.process.pid, *daemon.workers().values()]
    return sum(int(path.read_text().split()[0]) for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


async def client(port, request, requests, times):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(requests):
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        times.append(time.perf_counter() - began)
    writer.close()


async def measure(build, connections, requests):
    belay.BUILD = Path(build).resolve()
    with tempfile.TemporaryDirectory() as folder:
        daemon = belay.Belayd(folder, workers=1).start()
        await daemon.register("d")
        requested = [f"GET /api/device/d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {belay.token(f'a{n}', role='admin')}\r\n\r\n".encode()
                     for n in range(connections)]		# users of their own, since one may not have so many waiting
        await client(daemon.port, requested[0], 200, [])
        times, before = [], cpu_ns(daemon)
        await asyncio.gather(*(client(daemon.port, request, requests // connections, times) for request in requested))
        cpu = cpu_ns(daemon) - before
        daemon.stop()
    times.sort()
    print(f"build={build} connections={connections} requests={len(times)} cpu_us={cpu / len(times) / 1000:.1f} "
          f"p50_us={times[len(times) // 2] * 1e6:.0f} p99_us={times[len(times) * 99 // 100] * 1e6:.0f}", flush=True)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("-n", type=int, default=20000)
    options.add_argument("-c", type=int, nargs="*", default=[1, 64])
    options.add_argument("builds", nargs="*", default=[os.environ.get("TEST_BUILD", "build")])
    given = options.parse_args()
    for turn in range(3):
        for connections in given.c:
            for build in given.builds[::-1] if turn % 2 else given.builds:
                asyncio.run(measure(build, connections, given.n))


if __name__ == "__main__":
    main()
