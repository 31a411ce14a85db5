"""belayctl against a running belayd: what it prints, what its exit status says, and what it never shows."""

import asyncio
import contextlib
import datetime
import json
import os
import re
import signal
import socket
import ssl
import threading
import time

import pytest

import belay
from belay import BUILD, PATIENCE, SECRET, token

OK, FAILED, USAGE, UNCONFIRMED, NOT_SENT, UNREACHABLE, REFUSED = range(7)


def environment(**more):
    return belay.clean_environment(**{k: v for k, v in more.items() if v is not None})


class Ctl:
    """Runs belayctl for one belayd."""

    def __init__(self, belayd, tmp_path):
        self.belayd = belayd
        self.conf = tmp_path / "ctl.conf"
        self.conf.write_text(
            f'server: {{ listen = ["127.0.0.1:{belayd.port}"]; run_dir = "{tmp_path}"; }};\n'
            f'auth: {{ jwt_secret = "{SECRET}"; }};\nstore: {{ url = "memory:"; }};\n'
        )

    async def start(self, *args, conf=True, **env):
        argv = [str(BUILD / "belayctl"), *(["-c", str(self.conf), "-T", "t1"] if conf else []), *args]
        return await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=environment(**env),
        )

    async def run(self, *args, timeout=PATIENCE, **kwargs):
        """(exit status, standard output, standard error)"""
        p = await self.start(*args, **kwargs)
        try:
            out, err = await asyncio.wait_for(p.communicate(), timeout)
        except asyncio.TimeoutError:
            p.kill()
            raise AssertionError(f"belayctl {args} did not end") from None
        return p.returncode, out.decode(), err.decode()

    @contextlib.asynccontextmanager
    async def running(self, *args, **kwargs):
        p = await self.start(*args, **kwargs)
        try:
            yield p
        finally:
            if p.returncode is None:
                p.send_signal(signal.SIGTERM)
                await asyncio.wait_for(p.communicate(), PATIENCE)


@pytest.fixture
def ctl(belayd, tmp_path):
    return Ctl(belayd, tmp_path)


async def line(process, text, timeout=PATIENCE):
    """The next line of standard output that holds the text."""
    end = time.monotonic() + timeout
    seen = []
    while True:
        raw = await asyncio.wait_for(process.stdout.readline(), max(0.01, end - time.monotonic()))
        assert raw, f"it ended without {text!r}: {seen}"
        seen.append(raw.decode())
        if text in seen[-1]:
            return seen[-1]


async def test_token_is_taken_by_the_server(ctl, belayd):
    code, out, _ = await ctl.run("token", "--user", "u-token", "--tenant", "t9", "--role", "admin", "--ttl", "60s")
    assert code == OK
    c = await belayd.open("/ws", {"Authorization": f"Bearer {out.strip()}"})
    payload = c.connected["payload"]
    assert (payload["userId"], payload["tenantId"], payload["role"]) == ("u-token", "t9", "admin")
    await c.close()


async def test_token_without_a_secret(ctl):
    code, out, err = await ctl.run("token", conf=False)
    assert (code, out) == (USAGE, "") and "jwt_secret" in err


async def test_devices(ctl, belayd):
    code, out, _ = await ctl.run("device", "add", "ctl-1", "--owner", "u1", "--name", "Front door", "--type", "door-lock")
    assert code == OK
    body = json.loads(out)
    assert body["device"]["ownerId"] == "u1" and body["device"]["name"] == "Front door"
    first = body["deviceToken"]
    await (await belayd.device("ctl-1", first)).close()

    code, _, err = await ctl.run("device", "add", "ctl-1")
    assert code == FAILED and "conflict" in err
    code, out, _ = await ctl.run("device", "list")
    assert code == OK and "ctl-1" in out and first not in out
    code, out, _ = await ctl.run("device", "list", "--json", "--q", "ctl-1")
    assert code == OK and [json.loads(x)["deviceId"] for x in out.splitlines()] == ["ctl-1"]

    code, out, _ = await ctl.run("device", "rotate", "ctl-1")
    second = json.loads(out)["deviceToken"]
    assert code == OK and second != first
    with pytest.raises(belay.Refused):
        await belayd.device("ctl-1", first)
    await (await belayd.device("ctl-1", second)).close()

    code, out, _ = await ctl.run("device", "show", "ctl-1")
    assert code == OK and json.loads(out)["device"]["deviceId"] == "ctl-1" and second not in out
    assert (await ctl.run("-U", "u1", "device", "delete", "ctl-1"))[0] == OK
    assert (await ctl.run("device", "show", "ctl-1"))[0] == FAILED


async def test_quiet_prints_the_token_alone(ctl):
    code, out, _ = await ctl.run("device", "add", "ctl-quiet", "--quiet")
    assert code == OK and out.startswith("bdt_") and len(out) == 48


async def test_send_to_a_simulated_device(ctl, belayd, tmp_path):
    _, out, _ = await ctl.run("device", "add", "ctl-sim", "--owner", "u1", "--quiet")
    (tmp_path / "token").write_text(out)
    async with ctl.running("sim", "--device", "ctl-sim", "--token", f"@{tmp_path}/token", "--ack-delay", "50ms") as sim:
        await line(sim, "connected")
        code, out, _ = await ctl.run("send", "ctl-sim", "unlock_door", "--params", '{"seconds":5}', "--wait")
        command = json.loads(out)
        assert code == OK
        assert (command["status"], command["outcome"], command["params"]) == ("executed", "confirmed", {"seconds": 5})
        await line(sim, "executed")
        # Without --wait it is stored, and that is all that is said.
        code, out, _ = await ctl.run("send", "ctl-sim", "lock_door")
        assert code == OK and json.loads(out)["status"] in ("sent", "queued", "accepted", "executed")
        # The same key is the same command.
        ids = set()
        for _ in range(2):
            code, out, _ = await ctl.run("send", "ctl-sim", "unlock_door", "--key", "once", "--wait")
            ids.add(json.loads(out)["commandId"])
        assert code == OK and len(ids) == 1


async def test_exit_status_tells_what_is_known(ctl, belayd):
    _, out, _ = await ctl.run("device", "add", "ctl-status", "--owner", "u1", "--quiet")
    device_token = out.strip()
    # Offline: nothing was stored, or it ran out of time in the queue: safe to retry.
    code, _, err = await ctl.run("send", "ctl-status", "x", "--wait")
    assert code == NOT_SENT and "device_offline" in err
    code, out, _ = await ctl.run("send", "ctl-status", "x", "--queue", "300ms", "--wait")
    assert code == NOT_SENT and json.loads(out)["status"] == "expired"

    answers = {"fails": "failed", "silent": None}

    def answer(p):
        status = answers[p["command"]]
        return status and {"commandId": p["commandId"], "status": status, "error": "jammed"}

    device = await belayd.device("ctl-status", device_token)
    await belay.run_device(device, answer)
    code, out, _ = await ctl.run("send", "ctl-status", "fails", "--wait")
    assert code == FAILED and json.loads(out)["error"]["message"] == "jammed"
    code, out, _ = await ctl.run("send", "ctl-status", "silent", "--timeout", "1s", "--wait")
    assert code == UNCONFIRMED and json.loads(out)["outcome"] == "unconfirmed"
    await device.close()
    code, _, err = await ctl.run("send", "no-such-device", "x")
    assert code == FAILED and "not_found" in err


async def test_wrong_command_lines(ctl):
    for args in (
        [], ["nonsense"], ["send", "d"], ["send", "d", "c", "more"], ["send", "d", "c", "--timeout", "soon"],
        ["send", "d", "c", "--params", "[1]"], ["send", "d", "c", "--params", "{"], ["device"], ["device", "show"],
        ["sim", "--token", "bdt_x"], ["token", "--ttl"], ["tail", "--wat"], ["-u", "localhost:1", "stats"], ["-t", "", "stats"],
    ):
        code, out, err = await ctl.run(*args)
        assert code == USAGE and err and not out, (args, out, err)


async def test_help(ctl):
    """Asked for it is no fault, however one asks."""
    for args in (["-h"], ["--help"], ["help"]):
        code, out, err = await ctl.run(*args)
        assert code == OK and out.startswith("usage: belayctl") and "exit status" in out and not err, args
    for args in (["-V"], ["--version"], ["version"]):
        code, out, err = await ctl.run(*args)
        assert code == OK and re.fullmatch(r"belayctl \d+\.\d+\.\d+\n", out) and not err, args
    for command in ("token", "device", "send", "tail", "stats", "sim", "probe"):
        asked = [await ctl.run(*args) for args in ([command, "--help"], [command, "-h"], ["help", command])]
        assert asked[0] == asked[1] == asked[2] and asked[0][0] == OK and asked[0][1].startswith(f"belayctl {command} "), asked


async def test_no_server(ctl):
    port = belay.free_port()
    for args in (["stats"], ["send", "d", "c"], ["device", "list", "--json"], ["device", "list"]):
        code, out, err = await ctl.run("-u", f"http://127.0.0.1:{port}", *args)
        assert code == UNREACHABLE and not out and "running" in err


async def test_refused_token(ctl, belayd):
    old = token(ttl=-100)
    code, _, err = await ctl.run("-u", belayd.http, "device", "list", "--json", conf=False, BELAY_TOKEN=old)
    assert code == REFUSED and old not in err
    code, out, _ = await ctl.run("-u", belayd.http, "device", "list", conf=False, BELAY_TOKEN=old)
    assert code == REFUSED and out == ""
    code, _, err = await ctl.run("-u", belayd.http.replace("http:", "https:"), "device", "list", conf=False, BELAY_TOKEN=old)
    assert code == UNREACHABLE and "does not speak TLS" in err


async def test_tail(ctl, belayd):
    device_token = await belayd.register("ctl-tail")
    await belayd.register("ctl-other")
    async with ctl.running("-U", "u1", "tail", "--device", "ctl-tail") as tail:
        # It takes a moment until it subscribed: say it until it is heard.
        device = await belayd.device("ctl-tail", device_token)
        for _ in range(100):
            await device.send("telemetry", {"data": {"t": 20.9}})
            with contextlib.suppress(asyncio.TimeoutError):
                text = await line(tail, "telemetry", 0.2)
                break
        assert "ctl-tail" in text and '"t":20.9}' in text
        await device.send("event", {"event": "motion_detected"})
        await line(tail, "motion_detected")
        await device.close()
        await line(tail, "device_disconnected")


async def test_tail_keeps_terminals_safe(ctl, belayd):
    """What a device writes is shown, and no terminal obeys it: DEL and the controls of C1 are escapes, as the others are in JSON."""
    device = await belayd.device("ctl-esc", await belayd.register("ctl-esc"))
    for args in (["tail"], ["tail", "--json"]):
        async with ctl.running("-U", "u1", *args) as tail:
            for _ in range(100):
                await device.ws.send(json.dumps({"type": "telemetry", "payload": {"data": {"x": "a\u009b31m\x7f\x1bß"}}}, ensure_ascii=False))
                with contextlib.suppress(asyncio.TimeoutError):
                    text = await line(tail, "telemetry", 0.2)
                    break
            assert not set(text.strip()) & {"\u009b", "\x7f", "\x1b"}, ascii(text)
            assert r"\u009b31m\u007f\u001bß" in text.replace("001B", "001b"), ascii(text)
    await device.close()


async def test_tail_as_json_ends_after_its_count(ctl, belayd):
    device_token = await belayd.register("ctl-json")
    device = await belayd.device("ctl-json", device_token)
    task = asyncio.ensure_future(ctl.run("-U", "u1", "tail", "--json", "--count", "1"))
    while not task.done():
        await device.send("telemetry", {"data": {"n": 1.10}})
        await asyncio.sleep(0.05)
    code, out, _ = task.result()
    assert code == OK and len(out.splitlines()) == 1
    message = json.loads(out)
    assert message["type"] in ("telemetry", "device_connected")
    await device.close()


async def test_tail_comes_back_where_it_was(start, tmp_path):
    """The gateway that held it dies: no stored event is missed, none is shown twice."""
    daemon = start(workers=1)
    ctl = Ctl(daemon, tmp_path)
    await daemon.register("d1")
    bearer = token("u1", "t1")
    async with ctl.running("-U", "u1", "tail", "--json") as tail:
        shown = []

        async def read():
            while True:
                raw = await tail.stdout.readline()
                if not raw:
                    return
                m = json.loads(raw)
                # The new token is an event too, which may come in time for tail.
                if m["type"] == "device_event" and m["payload"]["event"].startswith("x_"):
                    shown.append(m["payload"]["event"])

        reader = asyncio.ensure_future(read())
        sent = 0
        device_token = (await daemon.rest("POST", "/api/device/d1/token", bearer=bearer))[1]["deviceToken"]

        async def say(until):
            """Each is stored when it was answered, whatever becomes of the gateway then."""
            nonlocal sent
            device = await daemon.device("d1", device_token)
            while sent < until:
                assert (await device.ask("event", {"event": f"x_{sent}"}))["type"] == "ok"
                sent += 1
            await device.close()

        # Until it listens nothing can be expected of it.
        while not shown:
            await say(sent + 1)
        first = int(shown[0][2:])
        os.kill(daemon.workers("gateway")["gateway 1"], signal.SIGKILL)
        await belay.eventually(lambda: daemon.workers("gateway"))
        await asyncio.to_thread(daemon.wait_ready)
        await say(sent + 20)
        want = [f"x_{i}" for i in range(first, sent)]
        try:
            await belay.eventually(lambda: len(shown) >= len(want))
        finally:
            reader.cancel()
            await asyncio.wait([reader])
        assert shown == want


async def test_stats(ctl, belayd):
    code, out, _ = await ctl.run("stats")
    assert code == OK and "connections" in json.loads(out)
    code, out, _ = await ctl.run("stats", "--health")
    assert code == OK and json.loads(out)["store"]["status"] == "ok"
    code, _, err = await ctl.run("stats", "--metrics")
    assert code != OK and "service key" in err
    code, out, _ = await ctl.run("-u", belayd.http, "stats", "--metrics", conf=False, BELAY_TOKEN=belayd.service_key)
    assert code == OK and "belay_connections_open" in out


async def test_many_simulated_devices(ctl, belayd):
    async with ctl.running("sim", "--devices", "25", "--prefix", "many-", "--telemetry", "200ms", "--ack-delay", "0") as sim:
        await line(sim, "connected 25")
        for i in (1, 13, 25):
            code, out, _ = await ctl.run("send", f"many-{i}", "unlock_door", "--wait")
            assert code == OK and json.loads(out)["status"] == "executed"
        sim.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(sim.communicate(), PATIENCE)
        assert sim.returncode == OK and b"executed 3" in out and b"failed 0" in out, (out, err)
    # They are known by now: new tokens are made for them.
    async with ctl.running("sim", "--devices", "2", "--prefix", "many-") as sim:
        await line(sim, "connected")


async def test_simulated_device_comes_back_and_runs_nothing_twice(start, tmp_path):
    daemon = start(workers=1)
    ctl = Ctl(daemon, tmp_path)
    async with ctl.running("sim", "--device", "d1", "--owner", "u1", "--ack-delay", "2s", "--telemetry", "0") as sim:
        await line(sim, "connected")
        waiting = asyncio.ensure_future(ctl.run("-U", "u1", "send", "d1", "unlock_door", "--timeout", "20s", "--wait"))
        await line(sim, "command unlock_door")
        os.kill(daemon.workers("gateway")["gateway 1"], signal.SIGKILL)
        await line(sim, "disconnected")
        # It works on while it is away: which of the two comes first is open.
        seen = ""
        while " connected" not in seen or " executed" not in seen:
            seen += await line(sim, "", 30)
        # Who waited lost the connection too, or hears of the end; what counts is what is known afterwards.
        await asyncio.wait([waiting])

        async def known():
            _, body = await daemon.rest("GET", "/api/device/d1/commands", bearer=token("u1", "t1"))
            return [c for c in body["commands"] if c["status"] == "executed"]

        commands = await belay.eventually(known)
        assert len(commands) == 1 and commands[0]["outcome"] == "confirmed"
        sim.send_signal(signal.SIGINT)
        out, _ = await asyncio.wait_for(sim.communicate(), PATIENCE)
        assert b"commands 1" in out and b"executed 1" in out


async def test_sim_does_not_fight_its_successor(ctl, belayd):
    device_token = await belayd.register("ctl-replaced")
    first = await ctl.start("sim", "--device", "ctl-replaced", BELAY_DEVICE_TOKEN=device_token)
    await line(first, "connected")
    second = await belayd.device("ctl-replaced", device_token)
    _, err = await asyncio.wait_for(first.communicate(), PATIENCE)
    assert first.returncode == FAILED and b"4009" in err and device_token.encode() not in err
    await second.close()


async def test_secrets_are_hidden_from_ps(ctl, belayd):
    device_token = await belayd.register("ctl-ps")
    bearer = token("u1", "t1")
    async with ctl.running("-t", bearer, "-u", belayd.url, "sim", "--device", "ctl-ps", "--token", device_token, conf=False) as sim:
        await line(sim, "connected")
        with open(f"/proc/{sim.pid}/cmdline", "rb") as f:
            shown = f.read()
        assert bearer.encode() not in shown and device_token.encode() not in shown and b"ctl-ps" in shown


# --- probe


@pytest.mark.parametrize(
    "make, words, status",
    [
        (lambda: None, ["no token was given", "1008", "Missing token"], REFUSED),
        (lambda: "abc", ["three parts", "Invalid token"], REFUSED),
        (lambda: f'"{token()}"', ["quotation marks"], REFUSED),
        (lambda: "Bearer " + token(), ["Bearer"], REFUSED),
        (lambda: token(secret="another-secret-that-is-long-enough-for-this"), ["does not fit the secret", "Invalid token"], REFUSED),
        (lambda: token(ttl=-3600), ["has expired", "Token expired"], REFUSED),
        (lambda: token(user=None), ["no user id claim"], REFUSED),
        (lambda: token(exp=4102444800000), ["milliseconds"], None),
        (lambda: "bdt_short", ["cut"], REFUSED),
        (lambda: "bdt_" + "A" * 43, ["device's id"], REFUSED),
        (token, ["well-formed and fits", "connected to belay-test as user u1 of tenant t1"], OK),
    ],
)
async def test_probe_tells_what_is_wrong_with_a_token(ctl, belayd, tmp_path, make, words, status):
    (tmp_path / "secret").write_text(SECRET)
    made = make()
    args = ["probe", belayd.url + "/ws", "--secret-file", str(tmp_path / "secret")]
    code, out, err = await ctl.run(*args, *(["--token", made] if made else []), conf=False)
    for word in words:
        assert word in out, out
    assert status is None or code == status, out
    assert made is None or len(made) < 10 or made not in out + err


async def test_probe_of_the_settings(ctl):
    code, out, _ = await ctl.run("probe")
    assert code == OK and "FAIL" not in out and "belayd" in out


async def test_probe_device(ctl, belayd):
    device_token = await belayd.register("ctl-probe")
    code, out, _ = await ctl.run("probe", belayd.url, "--device", "ctl-probe", conf=False, BELAY_TOKEN=device_token)
    assert code == OK and "as device ctl-probe" in out
    await belayd.rest("POST", "/api/device/ctl-probe/token")
    code, out, _ = await ctl.run("probe", belayd.url, "--device", "ctl-probe", conf=False, BELAY_TOKEN=device_token)
    assert code == REFUSED and "rotate" in out


async def test_probe_origin(start, tmp_path):
    daemon = start({"auth.origins": "https://app.example.com"})
    ctl = Ctl(daemon, tmp_path)
    code, out, _ = await ctl.run("probe", daemon.url, "--origin", "https://evil.example.com", conf=False, BELAY_TOKEN=token())
    assert code == FAILED and "origin" in out and "auth.origins" in out
    code, out, _ = await ctl.run("probe", daemon.url, "--origin", "https://app.example.com", conf=False, BELAY_TOKEN=token())
    assert code == OK, out


async def test_probe_wrong_addresses(ctl, belayd):
    code, out, _ = await ctl.run("probe", "ws://no-such-host.invalid/ws", "--token", "x", conf=False)
    assert code == UNREACHABLE and "does not resolve" in out
    code, out, _ = await ctl.run("probe", f"ws://127.0.0.1:{belay.free_port()}/ws", "--token", "x", conf=False)
    assert code == UNREACHABLE and "Nothing listens" in out
    code, out, _ = await ctl.run("probe", belayd.url.replace("ws:", "wss:") + "/ws", "--token", "x", conf=False)
    assert code == UNREACHABLE and "TLS" in out and "ws://" in out
    code, out, _ = await ctl.run("probe", belayd.url + "/elsewhere", "--token", token(), conf=False)
    assert code == FAILED and "/ws" in out
    code, out, _ = await ctl.run("probe", "localhost:3000", conf=False)
    assert code == USAGE and "ws://" in out


@contextlib.contextmanager
def listener(answer):
    """A server that gives one answer to whatever comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.settimeout(2)
                        with contextlib.suppress(OSError):
                            if connection.recv(4096):
                                connection.sendall(answer())

        threading.Thread(target=serve, daemon=True).start()
        yield f"ws://127.0.0.1:{server.getsockname()[1]}/ws"


async def test_probe_something_else_listens(ctl):
    with listener(lambda: b"SSH-2.0-OpenSSH_9.2\r\n") as url:
        code, out, _ = await ctl.run("probe", url, "--token", "x", conf=False)
        assert code == UNREACHABLE and "does not speak HTTP" in out
    with listener(lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") as url:
        code, out, _ = await ctl.run("probe", url, "--token", "x", conf=False)
        assert code == FAILED and "not the WebSocket's path" in out
    with listener(lambda: b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") as url:
        code, out, _ = await ctl.run("probe", url, "--token", "x", conf=False)
        assert code == FAILED and "proxy" in out


async def test_probe_clock_skew(ctl):
    def answer():
        at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=10)
        return (f"HTTP/1.1 404 Not Found\r\nDate: {at:%a, %d %b %Y %H:%M:%S} GMT\r\nContent-Length: 0\r\n\r\n").encode()

    with listener(answer) as url:
        _, out, _ = await ctl.run("probe", url, "--token", token(), conf=False)
        assert "ahead of" in out and "NTP" in out


@pytest.fixture
async def tls_proxy(belayd, tmp_path):
    """wss:// in front of belayd, with a certificate for "localhost" that nobody has signed: its address, the certificate."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = await asyncio.create_subprocess_exec(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", str(key),
        "-out", str(certificate), "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )
    assert await make.wait() == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def copy(reader, writer):
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()

    async def serve(reader, writer):
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", belayd.port)
        await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield f"wss://localhost:{server.sockets[0].getsockname()[1]}", str(certificate)
    server.close()


async def test_tls(ctl, belayd, tls_proxy):
    url, certificate = tls_proxy
    bearer = token("u1", "t1")
    code, out, _ = await ctl.run("probe", url, conf=False, BELAY_TOKEN=bearer)
    assert code == UNREACHABLE and "certificate" in out and "-K" in out
    code, _, err = await ctl.run("-u", url, "device", "list", "--json", conf=False, BELAY_TOKEN=bearer)
    assert code == UNREACHABLE and "certificate" in err
    for args, env in ((["-K"], {}), ([], {"SSL_CERT_FILE": certificate})):
        code, out, _ = await ctl.run(*args, "probe", url, conf=False, BELAY_TOKEN=bearer, **env)
        assert code == OK and "TLS is spoken" in out and "connected to belay-test" in out
        # Requests and WebSocket both, with messages longer than one record.
        device_token = await belayd.register("ctl-tls" + ("-k" if args else ""))
        name = "ctl-tls" + ("-k" if args else "")
        async with ctl.running(*args, "-u", url, "sim", "--device", name, conf=False, BELAY_DEVICE_TOKEN=device_token, **env) as sim:
            await line(sim, "connected")
            params = json.dumps({"text": "x" * 40000})
            code, out, err = await ctl.run(
                *args, "-u", url, "send", name, "show", "--params", params, "--wait", conf=False, BELAY_TOKEN=bearer, **env
            )
            assert code == OK and len(json.loads(out)["params"]["text"]) == 40000, err
    # A name that the certificate is not for.
    code, out, _ = await ctl.run("probe", url.replace("localhost", "127.0.0.1"), conf=False, BELAY_TOKEN=bearer, SSL_CERT_FILE=certificate)
    assert code == UNREACHABLE and "certificate" in out
    # Plain where TLS is spoken.
    code, out, _ = await ctl.run("probe", url.replace("wss:", "ws:"), conf=False, BELAY_TOKEN=bearer)
    assert code == UNREACHABLE and "wss://" in out
