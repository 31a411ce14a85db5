"""A store that was restored from a backup: cursors of before are void, epochs go on above all that were given."""

import signal
import sqlite3
import subprocess

import pytest

import belay
from belay import PATIENCE, clean_environment
from conftest import check_log


@pytest.fixture
def daemon(tmp_path):
    d = belay.Belayd(tmp_path / "belayd").start()
    yield d
    try:
        if d.process is not None:
            d.stop(signal.SIGQUIT)
    finally:
        check_log(d)


def restored(daemon, url=None):
    url = url or daemon.settings["store.url"]
    return subprocess.run([belay.BUILD / "belayctl", "store", "restored"], env=clean_environment(BELAY_STORE_URL=url, JWT_SECRET=belay.SECRET),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)


def put_back(daemon, backup):
    """The daemon's file becomes what it was, as cp does it."""
    path = daemon.folder / "belay.db"
    for rest in ("-wal", "-shm"):
        (daemon.folder / f"belay.db{rest}").unlink(missing_ok=True)
    path.write_bytes(backup.read_bytes())


async def comes_back(daemon, cursor):
    c = await daemon.user(query=f"?resume={cursor}")
    got = []
    while True:
        m = await c.recv()
        if m["type"] in ("resumed", "gap"):
            await c.close()
            return [x["payload"]["data"]["n"] for x in got if "n" in x["payload"].get("data", {})], m["type"], c.connected["payload"]["cursor"]
        got.append(m)


async def test_restored(daemon, tmp_path):
    tokens = {n: await daemon.register(n) for n in ("d1", "d2")}
    first = await daemon.user()
    device = await daemon.device("d1", tokens["d1"])
    backup = tmp_path / "backup.db"
    with sqlite3.connect(f"file:{daemon.folder}/belay.db?mode=ro", uri=True) as db, sqlite3.connect(backup) as to:
        db.backup(to)
    # What happens after the backup is lost with it: events, connections of a known device, and a device.
    epochs = {}
    for n in range(5):
        await device.ask("event", {"event": "x_n", "data": {"n": n}})
    cursor = (await first.expect("device_event", where=lambda m: m["payload"]["data"].get("n") == 4))["cursor"]
    for _ in range(4):
        device = await daemon.device("d1", tokens["d1"])
    epochs["d1"] = device.connected["payload"]["epoch"]
    assert epochs["d1"] == 5
    d3 = await daemon.device("d3", await daemon.register("d3"))
    epochs["d3"] = d3.connected["payload"]["epoch"]
    answer = restored(daemon)		# a server runs on it
    assert answer.returncode == 1 and answer.stderr != ""
    assert (await comes_back(daemon, cursor))[1] == "resumed"
    daemon.stop(signal.SIGQUIT)

    put_back(daemon, backup)
    answer = restored(daemon)
    assert answer.returncode == 0, answer.stderr
    daemon.start()
    device = await daemon.device("d1", tokens["d1"])
    assert device.connected["payload"]["epoch"] > epochs["d1"]
    d3 = await daemon.device("d3", await daemon.register("d3"))
    assert d3.connected["payload"]["epoch"] > epochs["d3"]
    # More places than there were: without another key the cursor would name one of them.
    for n in range(20):
        await device.ask("event", {"event": "x_n", "data": {"n": 100 + n}})
    for old in (cursor, first.connected["payload"]["cursor"]):
        got, end, here = await comes_back(daemon, old)
        assert (got, end) == ([], "gap")
    assert await comes_back(daemon, here) == ([], "resumed", here)
    # Once more: above those, too.
    epoch = device.connected["payload"]["epoch"]
    daemon.stop(signal.SIGQUIT)
    assert restored(daemon).returncode == 0
    daemon.start()
    device = await daemon.device("d1", tokens["d1"])
    assert device.connected["payload"]["epoch"] > epoch
    assert (await comes_back(daemon, here))[1] == "gap"


def test_what_is_no_store(tmp_path):
    d = belay.Belayd(tmp_path / "belayd")
    for url in (f"sqlite://{tmp_path}/missing.db", "memory:", "oracle://x"):
        answer = restored(d, url)
        assert answer.returncode == 2 and answer.stderr != "", (url, answer)
    assert not (tmp_path / "missing.db").exists()
    (tmp_path / "text.db").write_text("this is something else, and longer than a header\n" * 100)
    assert restored(d, f"sqlite://{tmp_path}/text.db").returncode == 1
    answer = subprocess.run([belay.BUILD / "belayctl", "store", "nonsense"], env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert answer.returncode == 2
