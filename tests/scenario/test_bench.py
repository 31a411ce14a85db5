"""The load programs: each runs for a moment against belayd and the floor, so that they are in order when they are needed."""

import asyncio
import subprocess

import pytest

import belay
from belay import BUILD, PATIENCE, SECRET


@pytest.fixture(scope="module")
def bench():
    """Where the load programs are; they are built when they are not there."""
    made = subprocess.run(["make", "-s", "-C", str(BUILD), "bench"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-4000:]
    return BUILD / "tests/bench"


async def load(program, *args):
    """The pairs of its line."""
    p = await asyncio.create_subprocess_exec(
        str(program), *map(str, args), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(p.communicate(), PATIENCE)
    assert p.returncode == 0, err.decode()
    return dict(pair.split("=", 1) for pair in out.decode().split())


SHORT = ("--seconds", "0.5", "--warm-up", "0.2")
CASES = [
    ("bench_echo", "echo", ("--raw",), ("--target", "/echo", "--connections", 10), "messages"),
    ("bench_echo", "echo", ("--raw",), ("--target", "/echo", "--connections", 10, "--depth", 16, "--size", 3000), "messages"),
    ("bench_fanout", "fanout", (), ("--subscribers", 40, "--window", 2), "deliveries"),
    ("bench_connect", "echo", ("--raw",), ("--at-once", 8, "--users", 20), "connections"),
    ("bench_connect", "echo", ("--raw",), ("--at-once", 8, "--devices", 20), "connections"),
    ("bench_command", "relay", ("--raw",), ("--controllers", 4, "--devices", 8), "commands"),
    ("bench_command", "relay", ("--raw",), ("--controllers", 4, "--devices", 8, "--rate", 100), "commands"),
    ("bench_telemetry", None, (), ("--devices", 8), "messages"), ("bench_telemetry", None, (), ("--devices", 8, "--rate", 100), "messages"),
]


async def test_against_belayd(bench, start, tmp_path):
    daemon = start({
        "server.echo": "true", "limits.message_rate": 1000000, "limits.message_burst": 1000000, "limits.requests_per_user": 0,
    })
    (tmp_path / "secret").write_text(SECRET + "\n")
    common = ("--connect", f"127.0.0.1:{daemon.port}", "--server-pid", daemon.process.pid, "--name", "belayd")
    for program, _, _, args, unit in CASES:
        secret = () if program == "bench_echo" else ("--secret-file", tmp_path / "secret")
        line = await load(bench / program, *common, *secret, *args, *SHORT)
        assert int(line[unit]) > 0 and float(line["server_cpu_us"]) > 0, line
    line = await load(
        bench / "bench_hold", *common, "--secret-file", tmp_path / "secret", "--connections", 200, "--seconds", 1, "--settle", "0.2"
    )
    assert line["connections"] == "200" and int(line["pss_kb"]) > 0


@pytest.mark.parametrize("program, mode, raw, args, unit", [c for c in CASES if c[1] == "relay" or (c[1] and "--devices" not in c[3])])
async def test_against_the_floor(bench, program, mode, raw, args, unit):
    port = belay.free_port()
    floor = await asyncio.create_subprocess_exec(str(bench / "raw_epoll"), "--mode", mode, "--port", str(port))
    try:
        await belay.eventually(lambda: reachable(port))
        line = await load(
            bench / program, "--connect", f"127.0.0.1:{port}", "--server-pid", floor.pid, "--name", "floor", *raw, *args, *SHORT
        )
        assert int(line[unit]) > 0, line
    finally:
        floor.terminate()
        await floor.wait()


async def reachable(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_a_load_program_tells_what_is_wrong(bench):
    port = belay.free_port()
    for args, word in (
        (("--connect", f"127.0.0.1:{port}"), "refused"), (("--connect", "nowhere"), "127.0.0.1:3000"), (("--wat",), "unknown option"),
        (("--seconds", "x"), "bad value"),
    ):
        p = await asyncio.create_subprocess_exec(str(bench / "bench_echo"), *args, stderr=asyncio.subprocess.PIPE)
        _, err = await asyncio.wait_for(p.communicate(), PATIENCE)
        assert p.returncode in (1, 2) and word in err.decode(), err
