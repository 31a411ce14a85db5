"""belayctl's hints: they name what is at fault and what exists, and none is needed where there is no fault."""

import asyncio
import contextlib
import re
import signal

import pytest

from belay import eventually, token
from test_belayctl import FAILED, OK, REFUSED, USAGE, Ctl


@pytest.fixture
def ctl(belayd, tmp_path):
    return Ctl(belayd, tmp_path)


# --- probe


async def test_probe_of_an_address_makes_its_token(ctl, belayd):
    """As without an address: the settings have the secret."""
    for args in (["probe"], ["probe", belayd.url], ["probe", belayd.http + "/ws"], ["-u", belayd.url, "probe"]):
        code, out, err = await ctl.run(*args)
        assert code == OK and "a token was made" in out and "as user belayctl of tenant t1" in out, (args, out, err)
        assert "FAIL" not in out
    # One that is given goes before.
    code, out, _ = await ctl.run("probe", belayd.url, "--token", token("u7", "t1"))
    assert code == OK and "as user u7" in out and "a token was made" not in out


async def test_probe_without_a_token_goes_on(ctl, belayd, tmp_path):
    for text in ("", "server: { nonsense = 1; };\n"):
        (tmp_path / "other.conf").write_text(text)
        code, out, _ = await ctl.run("probe", belayd.url, conf=False)
        assert code == REFUSED and "it is ready" in out and "no token was given" in out, out


async def test_probe_with_the_secret_of_another_server(ctl, belayd):
    ctl.conf.write_text(re.sub('jwt_secret = "[^"]*"', f'jwt_secret = "{"x" * 40}"', ctl.conf.read_text()))
    code, out, _ = await ctl.run("probe", belayd.url)
    assert code == REFUSED and "settings" in out.splitlines()[-1] and "-c" in out.splitlines()[-1], out
    assert "x" * 40 not in out


async def test_probe_device_token_without_its_id(ctl, belayd):
    device_token = await belayd.register("ops-no-id")
    code, out, _ = await ctl.run("probe", belayd.url, "--token", device_token)
    assert code == OK and "as device ops-no-id" in out and "FAIL" not in out, out
    code, out, _ = await ctl.run("probe", belayd.url, "--token", device_token, "--device", "another")
    assert code == REFUSED and "another device's id" in out, out


async def test_probe_looks_at_readiness(start, tmp_path):
    daemon = start({"server.drain_delay": "10m"}, workers=1)
    ctl = Ctl(daemon, tmp_path)
    code, out, _ = await ctl.run("probe")
    assert code == OK and "it is ready" in out, out
    daemon.process.send_signal(signal.SIGTERM)

    async def leaves():
        return (await daemon.rest("GET", "/health/ready", bearer=""))[0] == 503

    await eventually(leaves)
    code, out, _ = await ctl.run("probe")
    assert code == FAILED and "FAIL  the server is not ready" in out and "connected to" in out, out
    assert daemon.stop() == 0		# the second signal ends the delay


@contextlib.asynccontextmanager
async def below(belayd, prefix):
    """A proxy that serves belayd below a path, and nothing else."""

    async def pipe(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            method, path, rest = (await reader.readuntil(b"\r\n")).split(b" ", 2)
            if not path.startswith(prefix):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
            else:
                up, down = await asyncio.open_connection("127.0.0.1", belayd.port)
                down.write(b" ".join([method, path[len(prefix):], rest]))
                await asyncio.gather(pipe(reader, down), pipe(up, writer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}{prefix.decode()}/ws"
    finally:
        server.close()


async def test_probe_below_a_path(ctl, belayd):
    async with below(belayd, b"/belay") as url:
        code, out, _ = await ctl.run("probe", url)
        assert code == OK and "belayd 1." in out and "it is ready" in out, out


# --- the command line


@pytest.mark.parametrize("command", ["token", "device add", "device list", "device show", "device rotate", "device delete", "send", "tail",
                                     "stats", "store", "sim", "probe"])
async def test_unknown_option(ctl, command):
    code, out, err = await ctl.run(*command.split(), "--nonsense=hidden-value")
    assert (code, out) == (USAGE, "") and "--nonsense" in err and "hidden-value" not in err, err
    hint = re.search(r"\(belayctl (.*) lists them\)", err)[1]
    assert hint == f"{command} --help"
    code, out, err = await ctl.run(*hint.split(), conf=False)
    assert code == OK and err == "" and out.startswith(f"belayctl {command.split()[0]} "), (out, err)


async def test_option_behind_the_command(ctl):
    """Those of belayctl itself stand before it; a token that sticks to one is not shown."""
    for option in ("-u", "-t", "-thidden-value", "-U", "-K"):
        code, _, err = await ctl.run("device", "list", option, "hidden-value")
        assert code == USAGE and f"{option[:2]} stands before the command" in err and "hidden-value" not in err, err


async def test_what_is_at_fault_is_named(ctl, belayd, tmp_path):
    missing = f"@{tmp_path}/missing"
    (tmp_path / "empty").write_text("")
    empty = f"@{tmp_path}/empty"
    for named, args, env in (
        ("-t", ["-t", missing, "tail"], {}), ("-k", ["-k", empty, "stats"], {}), ("-t", ["-t", "a b", "tail"], {}),
        ("BELAY_TOKEN", ["tail"], {"BELAY_TOKEN": missing}), ("-u", ["-u", "nonsense", "tail"], {}),
        ("BELAY_URL", ["tail"], {"BELAY_URL": "nonsense"}), ("--token", ["sim", "--device", "d", "--token", missing], {}),
        ("BELAY_DEVICE_TOKEN", ["sim", "--device", "d"], {"BELAY_DEVICE_TOKEN": empty}),
        ("BELAY_DEVICE_TOKEN", ["sim"], {"BELAY_DEVICE_TOKEN": "bdt_x"}),
        ("--token", ["probe", "--token", missing], {}),
        ("--secret-file", ["probe", "--token", "x.y.z", "--secret-file", missing[1:]], {}),
        ("--fail-rate", ["sim", "--fail-rate", "2"], {}), ("--prefix", ["sim", "--prefix", "x" * 51], {}),
    ):
        code, _, err = await ctl.run(*args, **env)
        assert code == USAGE and err.startswith(f"belayctl: {named}"), (args, err)


async def test_settings_that_can_not_be_read(ctl, belayd, tmp_path):
    """As of a user who may not read the secrets: what to pass in their place, and that it is enough."""
    await belayd.register("ops-settings")
    ctl.conf.write_text(f'auth: {{ jwt_secret_file = "{tmp_path}/missing"; }};\n')
    for args in (["tail"], ["-u", belayd.http, "device", "list"], ["-t", token(), "device", "list"]):
        code, _, err = await ctl.run(*args)
        assert code == USAGE and "-u URL" in err and "-t TOKEN" in err and "jwt_secret_file" in err, err
    code, out, err = await ctl.run("-u", belayd.http, "-t", token(), "device", "list")
    assert code == OK and "ops-settings" in out, err
    code, _, err = await ctl.run("token")
    assert code == USAGE and "-u URL" not in err


# --- tail


async def test_tail_of_a_device_that_there_is_not(ctl, belayd):
    await belayd.register("ops-tail")
    for wrong in ("nope", "no/id"):
        for devices in ([wrong], ["ops-tail", wrong]):
            args = [x for d in devices for x in ("--device", d)]
            code, _, err = await ctl.run("-U", "u1", "tail", *args)
            assert code == FAILED and f"--device {wrong}" in err, err
    # Another user's is none of one's own.
    code, _, err = await ctl.run("-t", token("u2", "t1"), "-u", belayd.url, "tail", "--device", "ops-tail", conf=False)
    assert code == FAILED and "--device ops-tail" in err, err
