"""The life of an instance: starting, refusing to start, reloading, draining, and what the master does when processes die."""

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import websockets

import belay
from belay import PATIENCE, Refused, Stopwatch, clean_environment, eventually, free_port
from conftest import check_log
from fleet import taken_by

BELAYD = str(belay.BUILD / "belayd")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up privileges")


@pytest.fixture
def make(tmp_path):
    """make(settings…) gives a belayd that is not started; what was started is stopped in the end."""
    made = []

    def go(settings=None, without=(), folder=None, **kwargs):
        daemon = belay.Belayd(folder or tmp_path / f"belayd{len(made)}", settings, **kwargs)
        for name in without:
            del daemon.settings[name]
        made.append(daemon)
        return daemon

    yield go
    for daemon in made:
        try:
            if daemon.process is not None:
                daemon.stop(signal.SIGQUIT)		# no drain: clients of the test are not there to answer
        finally:
            check_log(daemon)


def run(*args, env=None, timeout=PATIENCE):
    """(status, standard output, standard error) of belayd with these arguments."""
    done = subprocess.run([BELAYD, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
                          env=clean_environment(**(env or {})))
    return done.returncode, done.stdout, done.stderr


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def port_is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def conf_file(daemon, text):
    """Settings that can change while it runs."""
    path = daemon.folder / "belayd.conf"
    path.write_text(text)
    return path


async def reloaded(daemon, times):
    await eventually(lambda: reloads_are(daemon, times))


async def reloads_are(daemon, times):
    return await daemon.metric("belay_reloads_total") >= times * len(daemon.workers())


# --- the command line


def test_version_and_help():
    status, out, err = run("-V")
    assert status == 0 and out.startswith("belayd 1.") and err == ""
    status, out, err = run("-h")
    assert status == 0 and out.startswith("usage: belayd") and err == ""
    for bad in (["-z"], ["word"], ["-c"], ["--nonsense"]):
        status, out, err = run(*bad)
        assert status == 1 and "usage: belayd" in err and out == ""


@pytest.mark.parametrize("text, wanted", [
    ("server: {\n  listen = [\"127.0.0.1:0\"];\n  nonsense = 1;\n};\n", [":3:", "server.nonsense"]),
    ("\n\nnonsense: { a = 1; };\n", [":3:", "nonsense"]),
    ("limits: {\n heartbeat = \"7 parsecs\";\n};\n", [":2:", "limits.heartbeat", "7 parsecs"]),
    ("limits: {\n heartbeat = \"1h\";\n};\n", [":2:", "limits.heartbeat"]),
    ("server: {\n\n workers = 1000;\n};\n", [":3:", "server.workers"]),
    ("server: {\n log_level = \"loud\";\n};\n", [":2:", "server.log_level"]),
    ("server: {\n listen = [\"here\"];\n};\n", [":2:", "server.listen"]),
    ("server: {\n listen = \n};\n", [":3:", "syntax"]),
    ("store: {\n url = \"oracle://x\";\n};\n", [":2:", "store.url"]),
    ("server: {\n workers = 1;\n workers = 2;\n};\n", [":3:"]),
    # What only a process that works with it can tell.
    ("\nserver: {\n tls_listen = [\"127.0.0.1:0\"];\n};\n", [":3:", "server.tls_listen", "server.tls_key is wanted"]),
    ("\n\nauth: { jwt_public_key_file = \"/etc/passwd\"; };\n", [":3:", "auth.jwt_public_key_file", "no PEM block"]),
])
def test_faults_of_the_file(tmp_path, text, wanted):
    """Each with file, line and name."""
    path = tmp_path / "belayd.conf"
    path.write_text(text)
    for how in (["-t"], ["-T"], ["-f"]):
        status, out, err = run("-c", path, "-o", f"auth.jwt_secret={belay.SECRET}", *how)
        assert status == 1, (how, err)
        assert str(path) in err and all(w in err for w in wanted), err


def test_all_faults_are_told_at_once(tmp_path):
    path = tmp_path / "belayd.conf"
    path.write_text("server: {\n a = 1;\n b = 2;\n};\nlimits: { heartbeat = 5; c = 1; };\n")
    status, _, err = run("-c", path, "-t", env={"BELAY_SERVER_D": "1", "BELAY_LIMITS_HEARTBEAT": "x"})
    assert status == 1
    for name in ("server.a", "server.b", "limits.c", "BELAY_SERVER_D", "BELAY_LIMITS_HEARTBEAT"):
        assert name in err, err


def test_files_that_can_not_be_read(tmp_path):
    for path in (tmp_path / "missing.conf", tmp_path):
        status, _, err = run("-c", path, "-t")
        assert status == 1 and str(path) in err, err
    conf = tmp_path / "belayd.conf"
    conf.write_text("")
    for option in ("jwt_secret_file", "jwt_public_key_file", "jwks_file"):
        status, _, err = run("-c", conf, "-o", f"auth.{option}={tmp_path}/missing", "-t")
        assert status == 1 and option in err and "missing" in err, err


def test_options_of_the_command_line(tmp_path):
    conf = tmp_path / "belayd.conf"
    conf.write_text("")
    for option, told in (("nonsense=1", "section.option=value"), ("server.nonsense=1", "server.nonsense"), ("server.workers", "section.option=value"),
                         ("server.workers=many", "server.workers"), ("limits.heartbeat=0", "limits.heartbeat")):
        status, _, err = run("-c", conf, "-o", option, "-t")
        assert status == 1 and told in err, err
    status, out, err = run("-c", conf, "-o", "limits.heartbeat=45s", "-T", env={"BELAY_LIMITS_HEARTBEAT": "10s", "BELAY_LIMITS_REPLAY": "7", "PORT": "4321"})
    assert status == 0 and 'heartbeat = "45s"' in out and "replay = 7;" in out and ":4321" in out


PEM = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq\n-----END PUBLIC KEY-----\n"


def test_secrets_that_are_none(tmp_path):
    conf, secret = tmp_path / "belayd.conf", tmp_path / "secret"
    conf.write_text("")
    for text in ("sesame", "x" * 31, PEM):
        for how in ("option", "environment", "file", "secret file"):
            secret.write_text(text)
            conf.write_text('auth: {\n jwt_secret = "%s";\n};\n' % text.replace("\n", "\\n") if how == "file" else "")
            args = {"option": ["-o", f"auth.jwt_secret={text}"], "secret file": ["-o", f"auth.jwt_secret_file={secret}"]}.get(how, [])
            status, out, err = run("-c", conf, *args, "-t", env={"JWT_SECRET": text} if how == "environment" else None)
            assert status == 1 and "auth.jwt_secret" in err, (how, err)
            assert text not in out + err and "qqqq" not in out + err
            if how == "file":
                assert f"{conf}:2" in err
    status, out, err = run("-c", conf, "-o", "auth.jwt_secret=short", "--insecure-short-secret", "-t")
    assert status == 0, err
    secret.write_text("")
    status, _, err = run("-c", conf, "-o", f"auth.jwt_secret_file={secret}", "-t")
    assert status == 1 and "jwt_secret_file" in err, err


def test_printed_settings_show_no_secret(tmp_path):
    conf = tmp_path / "belayd.conf"
    secret = tmp_path / "secret"
    secret.write_text("file-secret-" + "y" * 40)
    conf.write_text('auth: { jwt_secret = "file-secret-xxxxxxxxxxxxxxxxxxxxxxxxxx"; service_keys = ["a:t1:%s"];' % ("ab" * 32) +
                    ' jwks_proxy = "http://user:pass-secret@proxy:3306"; };\n')
    status, out, err = run("-c", conf, "-T")
    assert status == 0 and err == ""
    assert "***" in out and "secret-x" not in out and "abab" not in out and "pass-secret" not in out
    assert "http://user:***@proxy:3306" in out
    status, out, err = run("-c", conf, "-o", f"auth.jwt_secret_file={secret}", "-o", "auth.jwt_secret=", "-T")
    assert "yyy" not in out + err
    # What is printed is a file with the same meaning.
    again = tmp_path / "again.conf"
    plain = tmp_path / "plain.conf"
    plain.write_text('limits: { heartbeat = "45s"; send_buffer = "2M"; };\nauth: { origins = ["https://a"]; };\n')
    _, out, _ = run("-c", plain, "-T")
    again.write_text(out)
    status, out2, err = run("-c", again, "-T")
    assert status == 0 and out2 == out, err


# --- starting, or not


def test_port_taken(make):
    daemon = make()
    with socket.socket() as s:
        s.bind(("127.0.0.1", daemon.port))
        s.listen()
        daemon.start(wait=False)
        assert daemon.process.wait(PATIENCE) == 2
    text = daemon.log_text()
    assert f"127.0.0.1:{daemon.port}" in text and "in use" in text
    assert "is ready" not in text


def test_store_out_of_reach(make, tmp_path):
    (tmp_path / "file").write_text("")
    for url in (f"sqlite://{tmp_path}/file/belay.db", f"sqlite://{tmp_path}"):
        daemon = make(store=url)
        daemon.start(wait=False)
        assert daemon.process.wait(PATIENCE) == 2, daemon.log_text()
        assert "store" in daemon.log_text() and "is ready" not in daemon.log_text()


def test_store_that_is_no_database(make, tmp_path):
    path = tmp_path / "belay.db"
    path.write_bytes(b"this is something else, and longer than a header\n" * 100)
    daemon = make(store=f"sqlite://{path}")
    daemon.start(wait=False)
    assert daemon.process.wait(PATIENCE) == 2, daemon.log_text()
    assert "not a database" in daemon.log_text()
    assert path.read_bytes().startswith(b"this is something else")


def test_unknown_user(make):
    daemon = make({"server.user": "no-such-user"})
    daemon.start(wait=False)
    assert daemon.process.wait(PATIENCE) in (1, 2)
    assert "no-such-user" in daemon.log_text()


def test_store_that_is_lost_for_good(make, tmp_path):
    """A storage that can't be had again ends the instance: status 3, so that the service manager knows."""
    daemon = make(store=f"sqlite://{tmp_path}/data/belay.db", folder=tmp_path / "run")
    daemon.start()
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").write_text("a file is in the way")
    os.kill(daemon.workers("storage")["storage 1"], signal.SIGKILL)
    assert daemon.process.wait(PATIENCE) == 3, daemon.log_text()
    assert "can't be started again" in daemon.log_text()


def test_pidfile_keeps_two_apart(make, tmp_path):
    first = make(folder=tmp_path / "same")
    first.start()
    pidfile = tmp_path / "same" / "belayd.pid"
    assert int(pidfile.read_text()) == first.process.pid
    second = make({"server.run_dir": str(tmp_path / "same")}, folder=tmp_path / "other")
    second.start(wait=False)
    assert second.process.wait(PATIENCE) == 2
    assert f"running already (process {first.process.pid})" in second.log_text()
    second.process = None
    # A lock, not the file: after a kill -9 it is free at once.
    pids = [first.process.pid, *first.workers().values()]
    first.process.kill()
    first.process.wait()
    first.process = None
    assert pidfile.exists()
    third = make({"server.run_dir": str(tmp_path / "same"), "store.url": f"sqlite://{tmp_path}/third.db"}, folder=tmp_path / "third")
    third.start()
    assert int(pidfile.read_text()) == third.process.pid
    assert third.stop() == 0
    assert not pidfile.exists()
    wait_until(lambda: not any(map(alive, pids)))


async def test_store_keeps_two_apart(make, tmp_path):
    """Two belayds on one file, under whatever names, would send the same commands: the second is refused, and the first goes on."""
    url = f"sqlite://{tmp_path}/one.db"
    first = make({"store.url": url}, workers=1).start()
    await first.register("kept")
    (tmp_path / "link").symlink_to(tmp_path)
    second = make({"store.url": f"sqlite://{tmp_path}/link/one.db"}, workers=1).start(wait=False)
    assert second.process.wait(PATIENCE) == 2
    second.process = None
    assert "one.db: another belayd uses it" in second.log_text()
    assert (await first.rest("GET", "/api/device/kept"))[0] == 200
    # Not even while the first one's storage is replaced.
    killed = first.workers("storage")["storage 1"]
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: first.workers("storage").get("storage 1", killed) != killed)
    assert (await first.rest("PUT", "/api/device/kept", {"name": "kept"}))[0] == 200
    # One whose master was killed leaves by itself; whoever is started meanwhile waits for that.
    storage = first.workers("storage")["storage 1"]
    first.process.kill()
    first.process.wait()
    first.process = None
    assert alive(storage)
    third = make({"store.url": url}, workers=1).start()
    assert not alive(storage)
    assert (await third.rest("GET", "/api/device/kept"))[0] == 200


def wait_until(check, timeout=PATIENCE):
    end = time.monotonic() + timeout
    while not check():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


class Daemonized:
    """belayd without -f."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.port = free_port()
        self.pid = None
        self.log = folder / "belayd.log"
        belay.LOGS.setdefault(self.log, 0)
        self.pidfile = folder / "belayd.pid"
        (folder / "belayd.conf").touch()
        self.args = [BELAYD, "-c", str(folder / "belayd.conf"), "-o", f"server.listen=127.0.0.1:{self.port}", "-o", f"server.run_dir={folder}",
                     "-o", f"server.log={self.log}", "-o", f"store.url=sqlite://{folder}/belay.db", "-o", f"auth.jwt_secret={belay.SECRET}",
                     "-o", "server.workers=2", "-o", "server.drain_time=3s"]
        for o in options:
            self.args += ["-o", o]

    def start(self, **env):
        try:
            return subprocess.run(self.args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, env=clean_environment(**env))
        finally:
            self.pid = int(self.pidfile.read_text() or 0) if self.pidfile.exists() else None

    def processes(self):
        return [self.pid, *map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())]

    def ready(self):
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as s:
            s.sendall(b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b" 200 " in s.recv(100)

    def stop(self):
        if self.pid and alive(self.pid):
            os.kill(self.pid, signal.SIGTERM)
            wait_until(lambda: not alive(self.pid))


@pytest.fixture
def daemonized(tmp_path):
    made = []

    def go(*options, folder=tmp_path):
        made.append(Daemonized(folder, *options))
        return made[-1]

    yield go
    for d in made:
        d.stop()


def test_daemon(daemonized):
    """The command returns when clients are served, status 0; the daemon has no terminal, no standard files, its own session."""
    d = daemonized()
    done = d.start()
    assert done.returncode == 0 and done.stdout == "", done.stderr
    assert d.ready()
    stat = Path(f"/proc/{d.pid}/stat").read_text().rsplit(")", 1)[1].split()
    assert int(stat[3]) == d.pid, "not the leader of a session"
    assert int(stat[4]) == 0, "has a terminal"
    assert os.readlink(f"/proc/{d.pid}/cwd") == "/"
    for pid in d.processes():
        for fd in (0, 1, 2):
            assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null", (pid, fd)
    titles = {Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0")[0].decode() for p in d.processes()}
    assert {"belayd: master", "belayd: gateway 1", "belayd: gateway 2", "belayd: storage 1"} <= titles
    again = subprocess.run(d.args, env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert again.returncode == 2 and f"process {d.pid}" in again.stderr
    pids = d.processes()
    os.kill(d.pid, signal.SIGTERM)
    wait_until(lambda: not any(map(alive, pids)))
    assert not d.pidfile.exists()


def test_workers_have_nothing_of_the_masters(daemonized, tmp_path):
    """Neither the way to the service manager, nor the one to the command that waits for the start."""
    d = daemonized()
    manager = Manager(tmp_path / "notify")
    assert d.start(NOTIFY_SOCKET=manager.path).returncode == 0
    for pid in d.processes()[1:]:
        if "storage" in Path(f"/proc/{pid}/cmdline").read_text():	# which has no sockets of its own
            open_files = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
            # Of a pipe that is its own (the event loop's) it has both ends.
            assert not [f for f in open_files if f.startswith(("pipe:", "socket:")) and open_files.count(f) == 1], open_files
            break
    else:
        raise AssertionError("there is no storage")


def test_daemon_that_does_not_start(daemonized, tmp_path):
    (tmp_path / "file").write_text("")
    d = daemonized(f"store.url=sqlite://{tmp_path}/file/belay.db")
    done = d.start()
    assert done.returncode == 2 and "not started" in done.stderr
    assert "store" in d.log.read_text()


def test_log_is_opened_again(daemonized):
    d = daemonized()
    assert d.start().returncode == 0
    pids = d.processes()
    moved = d.folder / "belayd.log.1"
    d.log.rename(moved)
    os.kill(d.pid, signal.SIGUSR1)

    def targets():
        out = set()
        for pid in pids:
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    out.add(os.readlink(fd))
        return out

    wait_until(lambda: d.log.exists() and str(moved) not in targets())
    assert str(d.log) in targets()
    size = moved.stat().st_size
    os.kill(d.pid, signal.SIGHUP)
    wait_until(lambda: "reloaded" in d.log.read_text())
    assert moved.stat().st_size == size
    assert d.processes() == pids


@needs_root
def test_privileges_are_given_up():
    folder = Path(tempfile.mkdtemp(prefix="belay-user-"))
    try:
        nobody = pwd.getpwnam("nobody")
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir(0o700)
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        d = Daemonized(folder, "server.user=nobody", f"store.url=sqlite://{data}/belay.db")
        try:
            done = d.start()
            assert done.returncode == 0, done.stderr + d.log.read_text()
            assert d.ready()
            for pid in d.processes():
                status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
                uids = set(map(int, status["Uid"].split()))
                gids = set(map(int, status["Gid"].split()))
                if pid == d.pid:
                    assert uids == {0}
                else:
                    assert uids == {nobody.pw_uid} and gids == {nobody.pw_gid}
                    assert 0 not in map(int, status["Groups"].split())
                    assert int(status["CapEff"], 16) == 0
            for file in data.iterdir():
                assert file.stat().st_uid == nobody.pw_uid and file.stat().st_mode & 0o007 == 0, file
            assert d.log.stat().st_uid == nobody.pw_uid and d.log.stat().st_mode & 0o007 == 0
            assert d.pidfile.stat().st_uid == 0
            # A new log file is theirs too, and a worker that is started later.
            d.log.rename(folder / "old.log")
            os.kill(d.pid, signal.SIGUSR1)
            wait_until(lambda: d.log.exists() and d.log.stat().st_uid == nobody.pw_uid)
            before = set(d.processes())
            os.kill(d.processes()[-1], signal.SIGKILL)
            wait_until(lambda: len(d.processes()) == len(before) and set(d.processes()) != before)
            wait_until(lambda: all(Path(f"/proc/{p}").stat().st_uid == nobody.pw_uid for p in d.processes()[1:]))
        finally:
            d.stop()
    finally:
        shutil.rmtree(folder)


@needs_root
def test_folders_are_made_for_the_user():
    """As at the first start of an installation: neither the store's folder nor the one for the PID file is there."""
    folder = Path(tempfile.mkdtemp(prefix="belay-user-"))
    try:
        nobody = pwd.getpwnam("nobody")
        folder.chmod(0o755)
        d = Daemonized(folder, "server.user=nobody", f"store.url=sqlite://{folder}/var/belay/belay.db", f"server.run_dir={folder}/run")
        d.pidfile = folder / "run" / "belayd.pid"
        try:
            done = d.start()
            assert done.returncode == 0, done.stderr + d.log.read_text()
            assert d.ready()
            for path, mode, uid in (("var", 0o750, nobody.pw_uid), ("var/belay", 0o750, nobody.pw_uid),
                                    ("var/belay/belay.db", 0o600, nobody.pw_uid), ("run", 0o755, 0), ("run/belayd.pid", 0o644, 0)):
                st = (folder / path).stat()
                assert (st.st_mode & 0o7777, st.st_uid) == (mode, uid), path
            assert (folder / "var/belay").stat().st_gid == nobody.pw_gid
        finally:
            d.stop()
    finally:
        shutil.rmtree(folder)


@needs_root
def test_folder_that_the_user_may_not_write():
    folder = Path(tempfile.mkdtemp(prefix="belay-user-"))
    try:
        folder.chmod(0o755)
        d = Daemonized(folder, "server.user=nobody", f"store.url=sqlite://{folder}/data/belay.db")
        (folder / "data").mkdir(0o755)
        done = d.start()
        assert done.returncode == 2
        assert f"store unreachable: {folder}/data/belay.db: Permission denied" in d.log.read_text()
    finally:
        d.stop()
        shutil.rmtree(folder)


@needs_root
def test_folders_that_can_not_be_made():
    """Without root: what is said is why, not that what would be in them is not there."""
    folder = Path(tempfile.mkdtemp(prefix="belay-user-"))
    try:
        folder.chmod(0o755)
        program = shutil.copy(BELAYD, folder)			# the build folder may be closed to others
        for run_dir, store, wanted in ((folder / "run", "memory:", "its directory can't be made: Permission denied"),
                                       (folder / "open", f"sqlite://{folder}/store/belay.db", "/store/belay.db: Permission denied")):
            (folder / "open").mkdir(exist_ok=True)
            (folder / "open").chmod(0o777)
            done = subprocess.run([program, "-f", "-c", "/dev/null", "-o", f"server.listen=127.0.0.1:{free_port()}", "-o",
                                   f"server.run_dir={run_dir}", "-o", f"store.url={store}", "-o", f"auth.jwt_secret={belay.SECRET}"],
                                  capture_output=True, text=True, timeout=30, user="nobody", group="nogroup", extra_groups=[],
                                  env=clean_environment())
            assert done.returncode == 2 and wanted in done.stderr, done.stderr
    finally:
        shutil.rmtree(folder)


# --- the service manager


class Manager:
    """What systemd is to a service: a socket that hears of its state."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)

    def hear(self):
        self.socket.settimeout(PATIENCE)
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())

    def hear_of(self, name):
        while True:
            m = self.hear()
            if name in m:
                return m


def test_service_manager_is_told(make, tmp_path):
    manager = Manager(tmp_path / "notify")
    daemon = make(env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "600000"})
    daemon.start(wait=False)
    m = manager.hear_of("READY")
    assert m["READY"] == "1" and int(m["MAINPID"]) == daemon.process.pid
    daemon.wait_ready()
    for _ in range(3):
        assert manager.hear_of("WATCHDOG")["WATCHDOG"] == "1"
    daemon.process.send_signal(signal.SIGHUP)
    m = manager.hear_of("RELOADING")
    assert m["RELOADING"] == "1" and abs(int(m["MONOTONIC_USEC"]) - time.monotonic_ns() / 1000) < 5e6
    assert manager.hear_of("READY")["READY"] == "1"
    daemon.process.send_signal(signal.SIGTERM)
    assert manager.hear_of("STOPPING")["STOPPING"] == "1"
    assert daemon.process.wait(PATIENCE) == 0


def test_service_manager_hears_nothing_of_a_start_that_fails(make, tmp_path):
    manager = Manager(tmp_path / "notify")
    (tmp_path / "file").write_text("")
    daemon = make(store=f"sqlite://{tmp_path}/file/belay.db", env={"NOTIFY_SOCKET": manager.path})
    daemon.start(wait=False)
    assert daemon.process.wait(PATIENCE) == 2
    manager.socket.setblocking(False)
    heard = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            heard += manager.socket.recv(4096) + b"\n"
    assert b"READY" not in heard


# --- reloading


async def test_reload_drops_no_connection(make):
    daemon = make().start()
    bdt = await daemon.register("d1")
    device = await daemon.device("d1", bdt)
    users = [await daemon.user(f"u{n}") for n in range(8)]
    assert users[0].connected["payload"]["heartbeatMs"] == 30000
    conf_file(daemon, 'limits: { heartbeat = "7s"; message_size = "2K"; };\nserver: { log_level = "debug"; };\n')
    daemon.process.send_signal(signal.SIGHUP)
    await reloaded(daemon, 1)
    # Who is there stays; who comes gets the new settings.
    for c in (device, *users):
        assert (await c.ask("ping"))["type"] == "pong"
    fresh = await daemon.user("u9")
    assert fresh.connected["payload"]["heartbeatMs"] == 7000
    again = await daemon.device("d1", bdt)
    assert await device.closed() == (4009, "Replaced")
    await users[0].ws.send(json.dumps({"type": "ping", "payload": {"x": "y" * 3000}}))
    assert (await users[0].closed())[0] == 1009
    assert " debug " in daemon.log_text()
    assert await daemon.metric("belay_worker_deaths_total") == 0
    # Back.
    conf_file(daemon, "")
    daemon.process.send_signal(signal.SIGHUP)
    await reloaded(daemon, 2)
    assert (await daemon.user("u9")).connected["payload"]["heartbeatMs"] == 30000
    for c in (again, fresh, *users[1:]):
        assert (await c.ask("ping"))["type"] == "pong"


async def test_bad_settings_are_not_taken_up(make):
    daemon = make(without=["auth.jwt_secret"])
    good = f'auth: {{ jwt_secret = "{belay.SECRET}"; }};\n'
    conf_file(daemon, good)
    daemon.start()
    user = await daemon.user()
    for n, bad in enumerate((good + "server: { nonsense = 1; };\n", 'auth: { jwt_secret = "short"; };\nlimits: { heartbeat = "7s"; };\n', good + "limits: {",
                             good + 'auth: { };\n', good + 'limits: { heartbeat = "7s"; };\nauth2: {};\n')):
        path = conf_file(daemon, bad)
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.counted("belay_reloads_refused_total", n + 1)
        assert str(path) in daemon.log_text()
    assert await daemon.metric("belay_reloads_total") == 0
    assert (await daemon.user()).connected["payload"]["heartbeatMs"] == 30000
    assert (await user.ask("ping"))["type"] == "pong"
    # A file that is gone likewise.
    path.unlink()
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.counted("belay_reloads_refused_total", 6)
    conf_file(daemon, good + 'limits: { heartbeat = "7s"; };\n')
    daemon.process.send_signal(signal.SIGHUP)
    await reloaded(daemon, 1)
    assert (await daemon.user()).connected["payload"]["heartbeatMs"] == 7000


async def test_what_a_reload_can_not_change(make):
    daemon = make(without=["server.workers", "server.instance"])
    conf_file(daemon, 'server: { workers = 2; instance = "one"; };\n')
    daemon.start()
    before = daemon.workers()
    conf_file(daemon, 'server: { workers = 3; instance = "two"; };\nlimits: { heartbeat = "7s"; };\n')
    daemon.process.send_signal(signal.SIGHUP)
    await reloaded(daemon, 1)
    for name in ("server.workers", "server.instance"):
        assert f"{name} was changed" in daemon.log_text()
    assert daemon.workers() == before
    c = await daemon.user()
    assert c.connected["payload"]["instance"] == "one" and c.connected["payload"]["heartbeatMs"] == 7000
    # A process that is started later has the same settings as the others.
    os.kill(before["gateway 1"], signal.SIGKILL)
    await eventually(lambda: daemon.workers().get("gateway 1", before["gateway 1"]) != before["gateway 1"])
    await eventually(lambda: everyone_has(daemon, "one", 7000))


async def everyone_has(daemon, instance, heartbeat):
    for _ in range(12):
        try:
            c = await daemon.user()
        except (OSError, websockets.InvalidMessage, Refused):
            return False
        assert c.connected["payload"]["instance"] == instance and c.connected["payload"]["heartbeatMs"] == heartbeat
        await c.close()
    return True


async def test_reload_under_load(make):
    """Commands flow while the settings are read again and again: none is lost, no connection dropped."""
    daemon = make({"limits.message_rate": 100000, "limits.message_burst": 100000, "limits.requests_per_user": 0})
    daemon.start()
    bdt = await daemon.register("d1")
    device = await daemon.device("d1", bdt)
    done = await belay.run_device(device)
    user = await daemon.user()
    asked = 0
    for n in range(10):
        daemon.process.send_signal(signal.SIGHUP)
        for _ in range(10):
            assert (await user.ask("command", {"deviceId": "d1", "command": "x"}))["type"] == "command_status"
            asked += 1
    await eventually(lambda: len(done) == asked)
    assert len(set(done)) == asked


# --- stopping


async def test_drain(make):
    """Clients are told when to come back, each at another time, then closed with 1012; the process ends with 0."""
    daemon = make({"server.drain_time": "6s", "server.drain_rate": 20})
    daemon.start()
    bdt = await daemon.register("d1")
    device = await daemon.device("d1", bdt)
    clients = [device] + [await daemon.user(f"u{n}") for n in range(29)]
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)		# kept alive
    request = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"
    writer.write(request)
    assert b" 200 " in (await reader.readuntil(b"\r\n"))
    head = await reader.readuntil(b"\r\n\r\n")
    length = int([h.split(b":")[1] for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")][0])
    await reader.readexactly(length)
    watch = Stopwatch(daemon)
    daemon.process.send_signal(signal.SIGTERM)
    delays = [(await c.expect("reconnect"))["payload"]["afterMs"] for c in clients]
    writer.write(request)
    assert b" 503 " in (await reader.readuntil(b"\r\n"))
    assert all(0 < d < 6000 for d in delays) and len(set(delays)) >= 10
    status, body = await daemon.rest("GET", "/api/device/d1")		# who comes now is refused, and does not wait
    assert (status, body["error"]["code"]) == (503, "unavailable")
    ends = await asyncio.gather(*(end_of(c) for c in clients))
    assert {(code, reason) for code, reason, _ in ends} == {(1012, ends[0][1])}
    times = sorted(t for *_, t in ends)
    assert times[-1] - times[0] > 0.3, "closed all at once"
    assert await asyncio.get_running_loop().run_in_executor(None, daemon.process.wait, PATIENCE) == 0
    assert watch.stop()[1] < 7


async def end_of(c):
    code, reason = await c.closed()
    return code, reason, time.monotonic()


async def test_drain_with_idle_requests(make):
    """Connections between two requests, or before the first, are ended without further ado."""
    daemon = make({"server.drain_time": "3s"})
    daemon.start()
    idle = [await asyncio.open_connection("127.0.0.1", daemon.port) for _ in range(40)]
    for reader, writer in idle[::2]:
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"}")
    watch = Stopwatch(daemon)
    assert daemon.stop() == 0
    assert watch.stop()[1] < 2.9
    for reader, writer in idle:
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()


async def test_commands_are_finished_while_it_drains(make):
    daemon = make({"server.drain_time": "5s", "server.drain_rate": 1})
    daemon.start()
    bdt = await daemon.register("d1")
    device, user = await daemon.device("d1", bdt), await daemon.user()
    id = (await user.ask("command", {"deviceId": "d1", "command": "x"}))["payload"]["commandId"]
    daemon.process.send_signal(signal.SIGTERM)
    await device.expect("reconnect")
    assert (await device.ask("command_ack", {"commandId": id, "status": "executed"}))["type"] == "ok"
    assert (await device.closed())[0] == (await user.closed())[0] == 1012
    assert await asyncio.get_running_loop().run_in_executor(None, daemon.process.wait, PATIENCE) == 0
    daemon.process = None
    daemon.start()
    status, body = await daemon.rest("GET", f"/api/command/{id}")
    assert status == 200 and body["command"]["status"] == "executed"
    _, body = await daemon.rest("GET", "/api/device/d1")
    assert body["device"]["presence"]["status"] == "suspect"


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGUSR2])
async def test_requests_that_wait_for_a_command_do_not_hold_up_a_drain(make, sig):
    """Nobody is left who could end the command: ?wait=1 is answered as without it, and not at the deadline with nothing."""
    daemon = make({"server.drain_time": "1m"}).start()
    device = await daemon.device("d1", await daemon.register("d1"))
    asked = asyncio.ensure_future(daemon.rest("POST", "/api/command?wait=1", {"deviceId": "d1", "command": "x", "timeoutMs": 60000}))
    id = (await device.expect("command"))["payload"]["commandId"]
    before = set(daemon.workers().values())
    daemon.process.send_signal(sig)
    assert (await device.closed())[0] == 1012
    status, body = await asyncio.wait_for(asked, 15)
    assert status == 202 and body["command"]["commandId"] == id and body["command"]["status"] == "sent"
    if sig == signal.SIGTERM:
        assert await asyncio.get_running_loop().run_in_executor(None, daemon.process.wait, 15) == 0
        daemon.process = None
    else:
        await eventually(lambda: daemon.workers() and not before & set(daemon.workers().values()), 15)


async def test_second_term_stops_at_once(make):
    daemon = make({"server.drain_time": "1m", "server.drain_rate": 1})
    daemon.start()
    users = [await daemon.user(f"u{n}") for n in range(100)]
    watch = Stopwatch(daemon)
    daemon.process.send_signal(signal.SIGTERM)
    await users[0].expect("reconnect")
    daemon.process.send_signal(signal.SIGTERM)
    assert await asyncio.get_running_loop().run_in_executor(None, daemon.process.wait, PATIENCE) == 0
    assert watch.stop()[1] < 5
    assert port_is_free(daemon.port)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_whole_group(make, sig):
    """Control-C at a terminal, timeout(1), a service manager that signals all processes: the drain goes as it should."""
    daemon = make()
    daemon.log = open(daemon.log_path, "ab")
    daemon.process = subprocess.Popen(daemon.command(), stdin=subprocess.DEVNULL, stdout=daemon.log, stderr=daemon.log, start_new_session=True)
    daemon.wait_ready()
    watch = Stopwatch(daemon)
    os.killpg(daemon.process.pid, sig)
    assert daemon.process.wait(PATIENCE) == 0
    assert watch.stop()[1] < 3, daemon.log_text()
    assert "did not leave" not in daemon.log_text()


async def test_stop_of_an_idle_instance_is_quick(make):
    daemon = make({"server.drain_time": "30s"})
    daemon.start()
    watch = Stopwatch(daemon)
    assert daemon.stop() == 0
    assert watch.stop()[1] < 2


async def test_workers_do_not_obey_strangers(make):
    daemon = make()
    daemon.start()
    before = daemon.workers()
    for pid in before.values():
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(pid, sig)
    user = await daemon.user()
    assert (await user.ask("ping"))["type"] == "pong"
    await asyncio.sleep(0.3)
    assert daemon.workers() == before
    assert (await daemon.rest("GET", "/health/ready", bearer=""))[0] == 200


# --- another binary


class Program:
    """A belayd at a path of its own, where another version can be put: the same program with another number in it."""

    def __init__(self, folder):
        self.path = folder / "belayd"
        self.real = Path(BELAYD).read_bytes()
        self.version = subprocess.run([BELAYD, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
        self.put(self.version)

    def put(self, version):
        assert len(version) == len(self.version)
        self.write(self.real.replace(self.version.encode(), version.encode()))

    def write(self, content):
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.chmod(0o755)
        fresh.rename(self.path)

    def of(self, daemon):
        real = daemon.command
        daemon.command = lambda *extra: [str(self.path), *real(*extra)[1:]]
        return daemon


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
async def test_another_binary(make, tmp_path, accept):
    """USR2: the same process becomes the new program; clients are told to come back, and nobody is refused meanwhile."""
    program = Program(tmp_path)
    manager = Manager(tmp_path / "notify")
    daemon = program.of(make({"server.accept": accept, "server.admin_listen": f"unix:{tmp_path}/admin", "limits.requests_per_user": 0},
                             env={"NOTIFY_SOCKET": str(tmp_path / "notify")}))
    daemon.settings["server.listen"] += f",unix:{tmp_path}/socket"
    daemon.start()
    manager.hear_of("READY")
    pidfile = Path(daemon.settings["server.run_dir"]) / "belayd.pid"
    device_token = await daemon.register("d1")
    answered, refused, stop = [], [], False

    async def ask():
        while not stop:
            try:
                answered.append((await daemon.rest("GET", "/api/device/d1"))[0])
            except Exception as e:
                refused.append(repr(e))

    for version in ("7.7.7", "8.8.8"):
        device = await daemon.device("d1", device_token)
        epoch = device.connected["payload"]["epoch"]
        _, body = await daemon.rest("POST", "/api/command", {"deviceId": "d1", "command": "unlock_door"})
        await device.expect("command")
        asking = [asyncio.ensure_future(ask()) for _ in range(3)]
        count, pids = descriptors(daemon), daemon.workers()
        program.put(version)
        daemon.process.send_signal(signal.SIGUSR2)
        assert (await device.expect("reconnect"))["payload"]["afterMs"] >= 0
        assert (await device.closed())[0] == 1012
        device = await daemon.device("d1", device_token)
        assert device.connected["payload"]["version"] == version and device.connected["payload"]["epoch"] > epoch
        # What it was sent before is asked for: the store is the same.
        command = body["command"]["commandId"]
        assert (await device.expect("reconcile"))["payload"]["commandIds"] == [command]
        assert (await device.ask("command_ack", {"commandId": command, "status": "executed"}))["type"] == "ok"
        stop = True
        await asyncio.gather(*asking)
        stop = False
        assert refused == [] and answered and set(answered) == {200}
        manager.hear_of("READY")
        assert not set(pids.values()) & set(daemon.workers().values())
        assert int(pidfile.read_text()) == daemon.process.pid and descriptors(daemon) == count
        for path in ("socket", "admin"):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(str(tmp_path / path))
        await device.close()
    assert daemon.stop() == 0
    assert not pidfile.exists() and not (tmp_path / "socket").exists() and port_is_free(daemon.port)


async def test_another_binary_that_is_none(make, tmp_path):
    """Where the trial fails nothing changes; where the binary goes away behind it, the old one goes on."""
    program = Program(tmp_path)
    daemon = program.of(make()).start()
    user = await daemon.user()
    before = daemon.workers()
    program.write(b"#!/bin/sh\necho this one is broken >&2; exit 9\n")
    daemon.process.send_signal(signal.SIGUSR2)
    await daemon.counted("belay_binaries_refused_total", 1)
    assert "this one is broken" in daemon.log_text()		# what the new one said of itself
    program.path.unlink()
    daemon.process.send_signal(signal.SIGUSR2)
    await daemon.counted("belay_binaries_refused_total", 2)
    assert (await user.ask("ping"))["type"] == "pong"
    assert daemon.workers() == before
    program.write(b"#!/bin/sh\nrm \"$0\"\n")
    daemon.process.send_signal(signal.SIGUSR2)
    assert (await user.closed())[0] == 1012
    user = await daemon.user()
    assert user.connected["payload"]["version"] == program.version
    assert not set(daemon.workers().values()) & set(before.values())
    # And once there is one again, it comes in.
    program.put("9.9.9")
    daemon.process.send_signal(signal.SIGUSR2)
    assert (await user.closed())[0] == 1012
    user = await daemon.user()
    assert user.connected["payload"]["version"] == "9.9.9"
    await user.close()


async def test_another_binary_and_a_store_in_memory(make):
    """The store ends with the instance and would be gone: the binary stays."""
    daemon = make(store="memory:").start()
    await daemon.register("kept")
    before = daemon.workers()
    daemon.process.send_signal(signal.SIGUSR2)
    await daemon.counted("belay_binaries_refused_total", 1)
    assert daemon.workers() == before
    assert (await daemon.rest("GET", "/api/device/kept"))[0] == 200


async def test_stop_while_the_binary_is_replaced(make):
    """A TERM behind it means it: a client that does not leave holds up the one and the other."""
    daemon = make({"server.drain_time": "20s"}).start()
    user = await daemon.user()
    user.ws.transport.pause_reading()			# does not see that it is to go
    await daemon.user("u2")
    daemon.process.send_signal(signal.SIGUSR2)
    await eventually(lambda: "replacing the binary" in daemon.log_text())
    daemon.process.send_signal(signal.SIGTERM)
    await eventually(lambda: port_is_free(daemon.port))
    assert daemon.process.wait(PATIENCE) == 0
    daemon.process = None


def test_daemon_and_another_binary(daemonized):
    """Without a terminal too, and as the same session."""
    d = daemonized()
    done = d.start()
    assert done.returncode == 0, done.stderr
    before = d.processes()
    os.kill(d.pid, signal.SIGUSR2)
    wait_until(lambda: not set(d.processes()[1:]) & set(before[1:]) and len(d.processes()) == len(before))
    wait_until(d.ready)
    assert int(d.pidfile.read_text()) == d.pid == before[0] and os.getsid(d.pid) == d.pid


async def test_signal_of_somebody_else(make):
    """A USR2 does not end a worker seconds later, though it is the kernel's word of the master's death."""
    daemon = make()
    daemon.start()
    before = daemon.workers()
    for pid in before.values():
        os.kill(pid, signal.SIGUSR2)
    user = await daemon.user()
    await asyncio.sleep(4.5)		# an orphan is ended after 4 s
    assert daemon.workers() == before
    assert (await user.ask("ping"))["type"] == "pong"


# --- deaths


async def test_death_of_the_master(make):
    """All its processes are gone within 5 s, and the port is free."""
    daemon = make()
    daemon.start()
    users = [await daemon.user(f"u{n}") for n in range(6)]
    pids = list(daemon.workers().values())
    watch = Stopwatch(daemon)
    daemon.process.kill()
    daemon.process.wait()
    codes = {(await c.closed())[0] for c in users}
    await eventually(lambda: not any(map(alive, pids)))
    assert watch.stop()[1] < 5
    assert port_is_free(daemon.port)
    assert codes <= {1012, 1001, 1006}, codes
    daemon.process = None
    daemon.start()
    assert (await daemon.user()).connected


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
async def test_restart_at_the_masters_death(make, accept, tmp_path):
    """What starts belayd again at the very moment need not wait: its addresses are given back, also of a socket in a folder."""
    daemon = make({"server.accept": accept})
    daemon.settings["server.listen"] += f",unix:{tmp_path}/socket"
    daemon.start()
    for _ in range(4):
        user = await daemon.user()
        daemon.process.kill()
        daemon.process.wait()
        daemon.start()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{tmp_path}/socket")
        await user.closed()
    assert (await daemon.user()).connected


async def test_restart_while_a_worker_hangs(make):
    """Another worker gives the shared address back for the one that can't."""
    daemon = make()
    daemon.start()
    stopped = daemon.workers()["gateway 1"]
    os.kill(stopped, signal.SIGSTOP)
    try:
        daemon.process.kill()
        daemon.process.wait()
        daemon.start()
        assert (await daemon.user()).connected
    finally:
        os.kill(stopped, signal.SIGCONT)


async def test_death_of_the_master_while_a_worker_hangs(make):
    """One that is stopped can't leave; continued, it does so at once."""
    daemon = make()
    daemon.start()
    pids = daemon.workers()
    stopped = pids["gateway 2"]
    os.kill(stopped, signal.SIGSTOP)
    daemon.process.kill()
    daemon.process.wait()
    daemon.process = None
    await eventually(lambda: not any(alive(p) for n, p in pids.items() if p != stopped))
    os.kill(stopped, signal.SIGCONT)
    await eventually(lambda: not alive(stopped))
    assert port_is_free(daemon.port)


async def test_death_of_a_worker_leaves_the_others_alone(make):
    daemon = make()
    daemon.start()
    there, left = await at_each(daemon, 20)
    before = daemon.workers()
    os.kill(before["gateway 1"], signal.SIGKILL)
    await eventually(lambda: all(c.ws.closed for c in there))
    await eventually(lambda: daemon.workers().get("gateway 1", before["gateway 1"]) != before["gateway 1"])
    for c in left:
        assert (await c.ask("ping"))["type"] == "pong"
    after = daemon.workers()
    assert {n for n in before if before[n] != after.get(n)} == {"gateway 1"}
    # The dead one's share of new connections is served too, and it is counted.
    fresh = [await daemon.user(f"v{n}") for n in range(10)]
    assert len(fresh) == 10
    await eventually(lambda: users_are(daemon, len(left) + 10))
    assert await daemon.metric("belay_worker_deaths_total") == 1
    os.kill(before["storage 1"], signal.SIGKILL)
    await eventually(lambda: daemon.workers().get("storage 1", before["storage 1"]) != before["storage 1"])
    await daemon.register("d1")
    for c in left + fresh:
        assert (await c.ask("ping"))["type"] == "pong"


async def at_each(daemon, count):
    """So many users at each of two gateways."""
    out = []
    for gateway in ("gateway 1", "gateway 2"):
        out.append([])
        for n in range(count):
            with taken_by(daemon, gateway):
                out[-1].append(await daemon.user(f"u{n}"))
    return out


async def users_are(daemon, n):
    return await daemon.metric('belay_websocket_open{party="user"}') == n


async def test_worker_that_hangs_is_replaced(make):
    daemon = make({"server.hang_time": "2s"})
    daemon.start()
    others, there = await at_each(daemon, 6)
    before = daemon.workers()
    os.kill(before["gateway 2"], signal.SIGSTOP)
    watch = Stopwatch(daemon)
    await eventually(lambda: daemon.workers().get("gateway 2", before["gateway 2"]) != before["gateway 2"])
    elapsed, needed = watch.stop()
    assert 1.5 <= elapsed and needed < 6
    await eventually(lambda: all(c.ws.closed for c in there))
    for c in others:
        assert (await c.ask("ping"))["type"] == "pong"
    assert await daemon.metric("belay_worker_hangs_total") == 1
    os.kill(before["storage 1"], signal.SIGSTOP)
    asked = asyncio.ensure_future(daemon.register("d1"))
    await eventually(lambda: daemon.workers().get("storage 1", before["storage 1"]) != before["storage 1"])
    assert await asyncio.wait_for(asked, PATIENCE)
    assert await daemon.metric("belay_worker_hangs_total") == 2


async def test_crash_loop_backs_off(make):
    """A process that dies again and again is started at growing distances, and the others serve."""
    daemon = make()
    daemon.start()
    deaths, gaps = 6, []
    pid = daemon.workers()["gateway 1"]
    for _ in range(deaths):
        watch = Stopwatch(daemon)
        os.kill(pid, signal.SIGKILL)
        pid = await eventually(lambda: next((p for p in [daemon.workers().get("gateway 1")] if p and p != pid), None), PATIENCE, 0.005)
        gaps.append(watch.stop())
        assert (await daemon.user()).connected
    # At once, then 100 ms doubled each time.
    assert gaps[0][1] < 0.3
    for n in range(1, deaths):
        elapsed, needed = gaps[n]
        assert 0.09 * 2 ** (n - 1) < elapsed and needed < 0.1 * 2 ** (n - 1) + 1.0, gaps
    assert await daemon.metric("belay_worker_deaths_total") == deaths
