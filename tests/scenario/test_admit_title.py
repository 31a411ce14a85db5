"""What -o says is not for other users: they can read the command line of every process."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from belay import BUILD, PATIENCE, SECRET, clean_environment, eventually


def lines(pids):
    return {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}


def secret(text):
    return SECRET.encode() in text or b"auth" in text or b"s3cret" in text


async def test_before_anything_else(tmp_path):
    """A settings file that is a pipe holds belayd at the first thing that it does: its command line says nothing by then."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = subprocess.Popen([str(BUILD / "belayd"), "-f", "-o", f"auth.jwt_secret={SECRET}", "-o", "store.url=memory:", "-c", str(pipe)],
                               env=clean_environment(BELAY_AUTH_ISSUER="s3cret"), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    writer = None
    try:
        while writer is None:		# fails as long as nobody reads
            with contextlib.suppress(OSError):
                writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            assert process.poll() is None
        text = lines([process.pid])[process.pid]
        assert not secret(text), text
        assert not secret(Path(f"/proc/{process.pid}/environ").read_bytes())
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        if writer is not None:
            os.close(writer)


@pytest.mark.parametrize("again", [signal.SIGHUP, signal.SIGUSR2])
async def test_all_processes(start, again):
    """Nor later: in the workers, after a reload, and in the program that took the place of this one."""
    belayd = start({"auth.issuer": "", "limits.replay": 77}, workers=2)
    for _ in "12":
        seen = lines([belayd.process.pid, *belayd.workers().values()])
        assert len(seen) >= 4 and not any(secret(text) or b"77" in text for text in seen.values()), seen
        gone = set(belayd.workers().values())
        reloads = await belayd.metric("belay_reloads_total")
        belayd.process.send_signal(again)
        if again == signal.SIGHUP:
            async def done():
                return await belayd.metric("belay_reloads_total") > reloads
            await eventually(done)
        else:
            await eventually(lambda: len(belayd.workers()) == len(gone) and not gone & set(belayd.workers().values()))
