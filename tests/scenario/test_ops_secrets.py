"""Secrets in files that every user of the machine can read: a warning, and a fault where server.user says that there are others."""

import subprocess

import pytest

from belay import BUILD, PATIENCE, SECRET, clean_environment
from certs import Authority


def run(program, *args, **env):
    done = subprocess.run([str(BUILD / program), *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=PATIENCE, env=clean_environment(**env))
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, done.stderr


@pytest.fixture
def files(tmp_path):
    """write(name, text, mode) makes a file and gives its path."""

    def write(name, text, mode=0o600):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def exposed(files, what, mode):
    """Settings with a secret in a file of that mode, the path of the file that is told, and the option."""
    if what == "settings":
        conf = files("belayd.conf", f'auth: {{\n jwt_secret = "{SECRET}";\n}};\n', mode)
        return conf, f"{conf}:2", "auth.jwt_secret"
    if what == "included":
        inner = files("inner.conf", f'auth: {{ jwt_secret = "{SECRET}"; }};\n', mode)
        return files("belayd.conf", '@include "inner.conf"\n', 0o644), f"{inner.name}:1", "auth.jwt_secret"
    if what == "issuer":
        conf = files("belayd.conf", f'auth: {{ issuers = (\n {{ issuer = "a";\n  jwt_secret = "{SECRET}"; }} ); }};\n', mode)
        return conf, f"{conf}:3", "auth.jwt_secret"
    if what == "proxy":
        text = f'auth: {{ jwks_url = "https://x.example/";\n jwks_proxy = "http://me:{SECRET}@127.0.0.1:1"; }};\n'
        conf = files("belayd.conf", text, mode)
        return conf, f"{conf}:2", "auth.jwks_proxy"
    secret = files("secret", SECRET, mode)
    if what == "issuer's file":
        text = f'auth: {{ issuers = (\n {{ issuer = "a"; jwt_secret_file = "{secret}"; }} ); }};\n'
    else:
        text = f'auth: {{\n jwt_secret_file = "{secret}"; }};\n'
    return files("belayd.conf", text, 0o644), secret, "auth.jwt_secret_file"


@pytest.mark.parametrize("what", ["settings", "included", "issuer", "proxy", "file", "issuer's file"])
def test_secret_that_every_user_can_read(files, what):
    for mode in (0o644, 0o604):
        conf, path, option = exposed(files, what, mode)
        status, err = run("belayd", "-c", conf, "-t")
        assert status == 0 and str(path) in err and option in err and f"{mode:04o}" in err, err
        status, err = run("belayd", "-c", conf, "-t", "-o", "server.user=nobody")
        assert status == 1 and str(path) in err and option in err, err
    assert run("belayd", "-c", conf, "-T", "-o", "server.user=nobody") == (0, "")
    for mode in (0o600, 0o640):
        conf, _, _ = exposed(files, what, mode)
        assert run("belayd", "-c", conf, "-t", "-o", "server.user=nobody") == (0, "")


def test_key_of_the_certificate(files, tmp_path):
    certificate, key = Authority(tmp_path).issue("belay")
    text = f'server: {{ tls_listen = ["127.0.0.1:1"]; tls_certificate = "{certificate}";\n tls_key = "{key}"; }};\n'
    conf = files("belayd.conf", text)
    args = ["-c", conf, "-t", "-o", f"auth.jwt_secret={SECRET}"]
    for mode in (0o600, 0o640, 0o644):
        key.chmod(mode)
        told = "" if mode < 0o644 else str(key)
        status, err = run("belayd", *args)
        assert status == 0 and bool(err) == bool(told) and told in err, err
        status, err = run("belayd", *args, "-o", "server.user=nobody")
        assert status == bool(told) and told in err, err


def test_what_is_no_secret(files):
    """Settings without one, and the keys of back ends, of which there are hashes alone."""
    conf = files("belayd.conf", f'auth: {{ service_keys = ["backend:*:{"0" * 64}"]; }};\n', 0o644)
    assert run("belayd", "-c", conf, "-t", "-o", "server.user=nobody") == (0, "")
    # From the environment nothing is in a file.
    assert run("belayd", "-c", conf, "-t", "-o", "server.user=nobody", JWT_SECRET=SECRET) == (0, "")


def test_belayctl_uses_it_all_the_same(files):
    conf, _, _ = exposed(files, "file", 0o644)
    conf.write_text(conf.read_text() + 'server: { user = "nobody"; };\n')
    assert run("belayctl", "-c", conf, "token") == (0, "")
