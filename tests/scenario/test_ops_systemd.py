"""The systemd unit: its user and folders are made, and port 443 is within its rights, which go no further than the master."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

import belay
from belay import BUILD, PATIENCE, clean_environment, eventually, free_port

pytestmark = pytest.mark.once
SYSTEMD = Path(__file__).resolve().parents[2] / "contrib" / "systemd"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
needs_systemd = pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd is not installed")


def unit(name):
    """The values of an option of the unit, the last one last."""
    return re.findall(rf"^{name}=(.*)$", (SYSTEMD / "belayd.service.in").read_text(), re.M)


@needs_systemd
def test_unit_is_good(tmp_path):
    text = (SYSTEMD / "belayd.service.in").read_text().replace("@sbindir@", str(BUILD)).replace("@sysconfdir@", "/etc")
    (tmp_path / "belayd.service").write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / "belayd.service")], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == 0 and "belayd.service" not in done.stderr, done.stderr


@needs_root
@needs_systemd
def test_user_and_folders_are_made(tmp_path):
    (tmp_path / "etc").mkdir()
    for program, *args in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        conf = SYSTEMD / f"{program.removeprefix('systemd-')}.d" / "belay.conf"
        subprocess.run([program, f"--root={tmp_path}", *args, str(conf)], check=True, timeout=PATIENCE, capture_output=True)
    users = dict(line.split(":", 1) for line in (tmp_path / "etc/passwd").read_text().splitlines())
    uid, gid = map(int, users[unit("User")[-1]].split(":")[1:3])
    # As the unit would make them.
    for path, mode in ((f"var/lib/{unit('StateDirectory')[-1]}", unit("StateDirectoryMode")), (f"run/{unit('RuntimeDirectory')[-1]}",
                                                                                              unit("RuntimeDirectoryMode"))):
        st = (tmp_path / path).stat()
        assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (uid, gid, int(mode[-1], 8)), path


def capabilities(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return {name: int(value, 16) for name, value in re.findall(r"^Cap(Inh|Prm|Eff|Amb):\s*([0-9a-f]+)$", status, re.M)}


@needs_root
async def test_port_443_without_root():
    """With the capabilities of the unit, and as a user that is not root."""
    given = unit("AmbientCapabilities")[-1].split()
    assert set(given) <= set(unit("CapabilityBoundingSet")[-1].split())
    caps = ",".join(["-all", *(f"+{c.removeprefix('CAP_').lower()}" for c in given)])
    port = free_port()
    host = f"127.77.{port >> 8}.{port & 255}"		# nobody else's, whoever runs tests here
    nobody = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(prefix="belay-443-"))
    process = None
    try:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        program = shutil.copy(BUILD / "belayd", folder)			# the build folder may be closed to others
        log = folder / "belayd.log"
        belay.LOGS.setdefault(log, 0)
        with open(log, "wb") as out:
            process = subprocess.Popen(
                ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", f"--inh-caps={caps}",
                 f"--ambient-caps={caps}", f"--bounding-set={caps}", "--no-new-privs", program, "-f", "-c", "/dev/null",
                 "-o", f"server.listen={host}:443", "-o", f"server.run_dir={folder}", "-o", "server.workers=1", "-o", "store.url=memory:",
                 "-o", f"auth.jwt_secret={belay.SECRET}"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=clean_environment())

        def ready():
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError), socket.create_connection((host, 443), PATIENCE) as s:
                s.sendall(b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return b" 200 " in s.recv(4096)[:20]

        await eventually(ready)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert capabilities(process.pid)["Eff"] != 0 and children
        assert {pid: sum(capabilities(pid)[k] for k in ("Prm", "Eff", "Amb")) for pid in children} == dict.fromkeys(children, 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(folder)
