"""`memory:`: a database in a temporary place, which lives as long as its instance, and no longer."""
import os
import pwd
import signal
import subprocess
from pathlib import Path

import pytest

import belay
from belay import PATIENCE, eventually
from conftest import check_log

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up rights or mount a file system")


def place_of(daemon):
    """The folder of the store, as storage has it open."""
    for fd in Path(f"/proc/{daemon.workers('storage')['storage 1']}/fd").iterdir():
        path = Path(os.readlink(fd))
        if path.name == "belay.db":
            return path.parent
    raise AssertionError("storage has no store open")


async def kill_storage(daemon):
    before = daemon.workers("storage")
    os.kill(before["storage 1"], signal.SIGKILL)
    await eventually(lambda: daemon.workers("storage").get("storage 1") not in (None, before["storage 1"]))


async def test_store_survives_its_process_and_a_reload(start):
    """What was answered is there afterwards, and what waited for a device reaches it."""
    daemon = start(store="memory:")
    bdt = await daemon.register("d1")
    place = place_of(daemon)
    assert place.stat().st_mode & 0o777 == 0o700
    status, body = await daemon.rest("POST", "/api/command", {"deviceId": "d1", "command": "x", "queueMs": 600000})
    assert status == 202, body
    for times in (1, 2):
        await kill_storage(daemon)
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.counted("belay_reloads_total", times * len(daemon.workers()))
        status, found = await daemon.rest("GET", f"/api/command/{body['command']['commandId']}")
        assert status == 200 and found["command"]["status"] == "queued", found
        assert place_of(daemon) == place
    device = await daemon.device("d1", bdt)
    assert (await device.expect("command"))["payload"]["commandId"] == body["command"]["commandId"]
    await device.close()
    assert daemon.stop() == 0
    assert not place.exists()


async def test_each_instance_has_its_own(start):
    one, two = start(store="memory:"), start(store="memory:")
    await one.register("d1")
    assert (await two.rest("GET", "/api/device/d1"))[0] == 404
    assert place_of(one) != place_of(two)
    kept = place_of(one)
    assert two.stop() == 0
    third = start(store="memory:")
    assert place_of(third) != kept
    assert (await one.rest("GET", "/api/device/d1"))[0] == 200


async def test_place_goes_with_a_killed_master(start):
    """Its processes remove it as they leave."""
    daemon = start(store="memory:")
    await daemon.register("d1")
    place = place_of(daemon)
    daemon.process.kill()
    daemon.process.wait(PATIENCE)
    await eventually(lambda: not place.exists(), PATIENCE)


@needs_root
async def test_place_belongs_to_the_user_of_the_workers(start):
    nobody = pwd.getpwnam("nobody")
    daemon = start({"server.user": "nobody"}, store="memory:")
    await daemon.register("d1")
    place = place_of(daemon)
    assert place.stat().st_uid == nobody.pw_uid and place.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_uid == nobody.pw_uid and file.stat().st_mode & 0o077 == 0 for file in place.iterdir())
    await kill_storage(daemon)
    assert (await daemon.rest("GET", "/api/device/d1"))[0] == 200
    assert daemon.stop() == 0
    assert not place.exists()


class Contained(belay.Belayd):
    """With a /dev/shm of its own, and a TMPDIR that nobody else knows."""

    def __init__(self, folder, shm_size, tmpdir):
        super().__init__(folder, store="memory:", env={"TMPDIR": str(tmpdir)})
        self.shm_size = shm_size

    def command(self, *extra):
        script = f'mount -t tmpfs -o size={self.shm_size} tmpfs /dev/shm && exec "$@"'
        return ["unshare", "-m", "sh", "-c", script, "sh", *super().command(*extra)]


@pytest.fixture
def contain(tmp_path):
    """contain(size of /dev/shm) gives such a belayd; contain.tmpdir is the TMPDIR of all."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    started = []

    def go(shm_size):
        started.append(Contained(tmp_path / f"belayd{len(started)}", shm_size, go.tmpdir))
        return started[-1].start()

    go.tmpdir = tmp_path / "tmp"
    go.tmpdir.mkdir()
    yield go
    for daemon in started:
        try:
            daemon.stop()
        finally:
            check_log(daemon)
    assert list(go.tmpdir.iterdir()) == []


async def test_small_shared_memory_is_left_alone(contain):
    """A container's /dev/shm has 64 MB, which is no room for a store: TMPDIR has."""
    for shm_size, wanted in (("64m", contain.tmpdir), ("80m", Path("/dev/shm"))):
        daemon = contain(shm_size)
        assert place_of(daemon).parent == wanted
        await daemon.register("d1")


def ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_place_of_an_instance_of_which_nobody_is_left(contain):
    """All are killed at once: the next start removes it."""
    daemon = contain("64m")
    await daemon.register("d1")
    place = place_of(daemon)
    pids = [daemon.process.pid, *daemon.workers().values()]
    for sig in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, sig)
    daemon.process.wait(PATIENCE)
    await eventually(lambda: all(map(ended, pids)))
    assert (place / "belay.db").exists()
    other = contain("64m")
    assert not place.exists() and place_of(other).exists()
