"""Key sets by URL (auth.jwks_url): fetched once for all gateways, kept when they can't be had, and new in time for who needs them."""

import asyncio
import base64
import contextlib
import datetime
import gzip
import ipaddress
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from belay import PATIENCE, Belayd, Refused, Stopwatch, eventually, free_port
from fleet import kill

INVALID = (1008, "Invalid token")


def b64(n, size=None):
    return base64.urlsafe_b64encode(n.to_bytes(size or (n.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


class Key:
    """A signing key, its JWK, and tokens."""

    def __init__(self, kid, kind="ES256"):
        self.kid, self.kind = kid, kind
        self.key = ec.generate_private_key(ec.SECP256R1()) if kind == "ES256" else rsa.generate_private_key(65537, 2048)

    def jwk(self, **more):
        n = self.key.public_key().public_numbers()
        out = {"kid": self.kid, "use": "sig", "alg": self.kind}
        if self.kind == "ES256":
            out.update(kty="EC", crv="P-256", x=b64(n.x, 32), y=b64(n.y, 32))
        else:
            out.update(kty="RSA", n=b64(n.n), e=b64(n.e))
        return {**out, **more}

    def token(self, user="u1", kid=None, **claims):
        claims = {"sub": user, "tenant_id": "t1", "exp": int(time.time()) + 600, **claims}
        return jwt.encode(claims, self.key, algorithm=self.kind, headers={"kid": kid or self.kid})


def key_set(*keys):
    return json.dumps({"keys": [k.jwk() if isinstance(k, Key) else k for k in keys]}).encode()


class Issuer:
    """A web server on loopback.  answer is bytes (sent as 200), or a function of the request handler."""

    def __init__(self, answer=b"", context=None, host="127.0.0.1", port=0):
        self.answer, self.headers, self.requests, self.lock = answer, {}, [], threading.Lock()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with issuer.lock:
                    issuer.requests.append(dict(self.headers))
                self.close_connection = True
                with contextlib.suppress(OSError):
                    if callable(issuer.answer):
                        issuer.answer(self)
                    else:
                        reply(self, 200, issuer.answer, issuer.headers)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass

        self.server = Server((host, port), Handler)
        self.port = self.server.server_address[1]
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http{'s' if context else ''}://{host}:{self.port}/keys"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def hits(self):
        with self.lock:
            return len(self.requests)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def reply(handler, status, body=b"", headers=None, length=None):
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def after(seconds, body):
    def answer(handler):
        time.sleep(seconds)
        reply(handler, 200, body)

    return answer


@pytest.fixture
def issuer():
    """issuer(answer…) starts a web server of the test's own."""
    started = []

    def go(*args, **kwargs):
        started.append(Issuer(*args, **kwargs))
        return started[-1]

    yield go
    for i in started:
        i.stop()


def settings(url, **more):
    return {"auth.jwt_secret": "", "auth.jwks_url": url, **{"auth." + k: v for k, v in more.items()}}


async def enter(daemon, token, path="/ws"):
    """Connects and is greeted."""
    c = await daemon.open(path, {"Authorization": f"Bearer {token}"})
    await c.close()


async def refused(daemon, token):
    with pytest.raises(Refused) as e:
        await daemon.open("/ws", {"Authorization": f"Bearer {token}"})
    assert (e.value.code, e.value.reason) == INVALID


async def takes(daemon, what, at_least, less_than):
    """Seconds that it takes to be let in or refused: by the clock at least so many, of its own less than so many."""
    watch = Stopwatch(daemon)
    await what
    elapsed, needed = watch.stop()
    assert at_least <= elapsed and needed < less_than, (elapsed, needed)


async def is_in(daemon, token):
    with contextlib.suppress(Refused):
        await enter(daemon, token)
        return True
    return False


async def everywhere(daemon, token, good, times=24):
    """So many connections at once reach all gateways; is each let in, or each refused?"""
    return all(r is good for r in await asyncio.gather(*(is_in(daemon, token) for _ in range(times))))


async def fetches(daemon):
    return {r: await daemon.metric(f'belay_key_set_fetches_total{{result="{r}"}}') for r in ("changed", "unchanged", "failed")}


def processes(daemon, role):
    return daemon.workers(role)


# --- the first set


async def test_from_the_first_token_on(start, issuer):
    """The instance is ready when the keys are there: nobody is refused at a good start, and all gateways share a fetch."""
    old, new = Key("k1"), Key("r1", "RS256")
    i = issuer(after(0.5, key_set(old, new)))
    daemon = start(settings(i.url), workers=3)
    assert await everywhere(daemon, old.token(), True)
    assert await everywhere(daemon, new.token(), True)
    assert i.hits == 1
    assert await fetches(daemon) == {"changed": 1, "unchanged": 0, "failed": 0}
    assert await daemon.metric("belay_tokens_held_total") == 0
    assert len(processes(daemon, "keys")) == 1
    sent = i.requests[0]
    assert "Cookie" not in sent and "Authorization" not in sent and "Accept-Encoding" not in sent
    assert sent["User-Agent"].startswith("belayd/") and "json" in sent["Accept"]


async def test_no_process_without_url(start):
    daemon = start()
    assert processes(daemon, "keys") == {}


async def test_libcurl_is_where_it_is_needed(start, issuer):
    """It brings two dozen libraries along: no process that holds clients, the store or root's rights has them mapped."""
    d = start(settings(issuer(key_set(Key("k1"))).url))
    mapped = {name: "libcurl.so" in Path(f"/proc/{pid}/maps").read_text()
              for name, pid in {**d.workers(), "master": d.process.pid}.items()}
    assert {name for name, has in mapped.items() if has} == {"keys 1"}, mapped


async def test_large_set(start, issuer):
    """More keys than one record between processes holds, with everything that such documents carry along, and the smallest rings."""
    keys = [Key(f"key-{n}", "ES256") for n in range(63)] + [Key("last", "RS256")]
    chain = ["A" * 8000]
    i = issuer(key_set(*(k.jwk(x5c=chain, x5t="t" * 27, note={"a": [1, 2]}, kid=k.kid + "x" * 200) for k in keys)))
    assert len(i.answer) > 512 * 1024
    daemon = start({**settings(i.url), "memory.mailbox": "64K"})
    for k in (keys[0], keys[40], keys[-1]):
        assert await everywhere(daemon, k.token(kid=k.kid + "x" * 200), True, 8)
    assert i.hits == 1


async def test_server_down_at_start(start, issuer):
    key = Key("k1")
    port = free_port()
    daemon = start(settings(f"http://127.0.0.1:{port}/keys", jwks_cooldown="1h"), wait=False)
    watch = Stopwatch(daemon)
    daemon.wait_ready()
    assert watch.stop()[1] < 5
    await takes(daemon, refused(daemon, key.token()), 0, 2)
    assert await daemon.metric("belay_key_sets_stale") == 1
    issuer(key_set(key), port=port)
    await eventually(lambda: is_in(daemon, key.token()), PATIENCE, 0.1)
    assert await daemon.metric("belay_key_sets_stale") == 0
    assert daemon.log_text().count("there are no keys yet") == 1


async def test_server_hangs_at_start(start, issuer):
    """A start waits 5 s for keys, and no longer."""
    key, let_go = Key("k1"), threading.Event()

    def hang(handler):
        let_go.wait(30)
        reply(handler, 200, key_set(key))

    i = issuer(hang)
    daemon = start(settings(i.url), wait=False)
    watch = Stopwatch(daemon)
    daemon.wait_ready()
    elapsed, needed = watch.stop()
    assert 4.5 <= elapsed and needed < 8
    waiting = asyncio.ensure_future(enter(daemon, key.token()))
    await asyncio.sleep(0.3)
    let_go.set()
    await takes(daemon, waiting, 0, 3)
    assert i.hits == 1


# --- keys that come and go


async def test_rotation(start, issuer):
    """The first user with a key of the new set waits for it, whichever way the token comes."""
    old = Key("k1")
    i = issuer(key_set(old))
    daemon = start(settings(i.url, jwks_cooldown="1s"))
    c = await daemon.open("/ws", {"Authorization": f"Bearer {old.token()}"})
    keys = [old]

    async def rotate():
        await asyncio.sleep(1.1)	# the cooldown
        keys.append(Key(secrets.token_hex(4), "RS256" if len(keys) % 2 else "ES256"))
        i.answer = after(0.4, key_set(*keys))
        return keys[-1].token()

    assert await everywhere(daemon, await rotate(), True)
    assert i.hits == 2, "many gateways that ask are one fetch"

    status, _ = await daemon.rest("GET", "/api/device", bearer=await rotate())
    assert status == 200
    status, body = await daemon.rest("POST", "/api/device/register", {"deviceId": "d1", "name": "x" * 100}, bearer=await rotate())
    assert status == 201, body

    first = await daemon.raw("/ws?auth=message")
    await first.send("auth", {"token": await rotate()})
    await first.send("ping")
    assert (await first.recv())["type"] == "connected"
    assert (await first.recv())["type"] == "pong"
    await first.close()

    token = await rotate()
    answer = await c.ask("auth", {"token": token})
    assert answer["type"] == "ok" and answer["payload"]["expiresAt"]
    await c.send("auth", {"token": Key("no").token()})
    assert await c.closed() == INVALID
    assert await daemon.metric("belay_tokens_held_total") >= 5
    assert (await fetches(daemon))["failed"] == 0


async def test_pipelined_requests_wait_in_order(start, issuer):
    old, new = Key("k1"), Key("k2")
    i = issuer(key_set(old))
    daemon = start(settings(i.url, jwks_cooldown="1s"), workers=1)
    i.answer = after(0.5, key_set(old, new))

    def request(path, key):
        return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key.token()}\r\n\r\n".encode()

    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    writer.write(request("/api/device", old) + request("/api/device", new) + request("/nothing", old))
    statuses = []
    while len(statuses) < 3:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        statuses.append(int(head.split()[1]))
        length = [l for l in head.lower().split(b"\r\n") if l.startswith(b"content-length")][0]
        await reader.readexactly(int(length.split(b":")[1]))
    assert statuses == [200, 200, 404]
    writer.close()


async def test_client_leaves_while_it_waits(start, issuer):
    key = Key("k1")
    i = issuer(key_set(key))
    daemon = start(settings(i.url, jwks_cooldown="1s"), workers=1)
    i.answer = after(1, key_set(key))
    for path in ("/ws", "/api/device"):
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{upgrade if path == '/ws' else ''}"
                     f"Authorization: Bearer {Key('other').token()}\r\n\r\n".encode())
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
    await asyncio.sleep(1.2)
    await enter(daemon, key.token())
    assert await daemon.metric("belay_worker_deaths_total") == 0


async def test_removed_key_is_gone(start, issuer):
    """At once, with the next good answer, in all gateways; what was verified with it before counts no more."""
    old, new = Key("k1"), Key("k2")
    i = issuer(key_set(old, new))
    daemon = start(settings(i.url, jwks_refresh="1s", jwks_cooldown="1h"), workers=3)
    assert await everywhere(daemon, old.token(), True)
    i.answer = key_set(new)
    await eventually(lambda: everywhere(daemon, old.token(), False), PATIENCE, 0.05)
    assert await everywhere(daemon, new.token(), True)


async def test_slow_server(start, issuer):
    """3 s is how long a token waits; the set that comes later counts nevertheless."""
    old, new = Key("k1"), Key("k2")
    i = issuer(key_set(old))
    daemon = start(settings(i.url, jwks_cooldown="1h"))
    i.answer = after(4.5, key_set(old, new))
    await takes(daemon, refused(daemon, new.token()), 2.5, 4)
    await enter(daemon, old.token())
    await eventually(lambda: is_in(daemon, new.token()), PATIENCE, 0.2)
    assert i.hits == 2


async def test_server_that_says_nothing(start, issuer):
    """A fetch ends after 10 s in all; nothing else stands still meanwhile."""
    key, let_go = Key("k1"), threading.Event()
    i = issuer(key_set(key))
    daemon = start(settings(i.url, jwks_cooldown="1h"))
    i.answer = lambda handler: let_go.wait(30)
    await takes(daemon, refused(daemon, Key("k2").token()), 2.5, 4)
    began = time.monotonic()

    async def ended():
        await enter(daemon, key.token())
        return (await fetches(daemon))["failed"] == 1

    await eventually(ended, PATIENCE, 0.2)
    assert time.monotonic() - began > 5
    assert await daemon.metric("belay_worker_hangs_total") == 0
    let_go.set()


async def test_random_key_ids(start, issuer):
    """However many tokens name keys that there never were, and in however many gateways: one fetch in a cooldown."""
    key, other = Key("k1"), Key("k2")
    i = issuer(key_set(key))
    daemon = start(settings(i.url, jwks_cooldown="5s"), workers=3)
    assert i.hits == 1
    began = time.monotonic()
    for _ in range(10):
        await asyncio.gather(*(refused(daemon, other.token(kid=secrets.token_hex(8))) for _ in range(20)))
        await asyncio.sleep(0.1)
    assert 2 <= i.hits <= 2 + (time.monotonic() - began) / 5

    async def another():
        before = i.hits
        await refused(daemon, other.token(kid=secrets.token_hex(8)))
        return i.hits > before

    await eventually(another, PATIENCE, 0.2)
    # Within the cooldown a refusal is quick.
    await takes(daemon, refused(daemon, other.token(kid="and again")), 0, 1)
    assert 3 <= i.hits <= 2 + (time.monotonic() - began) / 5
    f = await fetches(daemon)
    assert f == {"changed": 1, "unchanged": i.hits - 1, "failed": 0}
    assert await daemon.metric("belay_key_sets_asked_total") <= 3 * (i.hits - 1)
    await enter(daemon, key.token())


async def test_many_wait(start, issuer):
    """Beyond those that may wait at a time the others are judged by the keys there are."""
    key, new = Key("k1"), Key("k2")
    i = issuer(key_set(key))
    daemon = start(settings(i.url, jwks_cooldown="1h"), workers=1)
    i.answer = after(1.5, key_set(key, new))
    results = await asyncio.gather(*(is_in(daemon, new.token()) for _ in range(1100)))
    assert results.count(True) >= 1000
    assert i.hits == 2


# --- how often


async def test_max_age_and_refresh(start, issuer):
    key = Key("k1")
    often, seldom = issuer(key_set(key)), issuer(key_set(key))
    seldom.headers = {"Cache-Control": "public, max-age=3600"}
    a = start(settings(often.url, jwks_refresh="1s"))
    b = start(settings(seldom.url, jwks_refresh="1s"))
    await eventually(lambda: often.hits >= 4)
    assert seldom.hits == 1
    assert (await fetches(a))["changed"] == 1 and (await fetches(a))["unchanged"] >= 2
    assert await fetches(b) == {"changed": 1, "unchanged": 0, "failed": 0}


@pytest.mark.parametrize("field,condition", [("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")])
async def test_conditional_requests(start, issuer, field, condition):
    key, new = Key("k1"), Key("k2")
    tag = '"v1"' if field == "ETag" else "Fri, 20 Nov 2026 08:00:00 GMT"
    i = issuer()

    def answer(handler):
        if handler.headers.get(condition) == tag:
            reply(handler, 304)
        else:
            reply(handler, 200, key_set(key), {field: tag})

    i.answer = answer
    daemon = start(settings(i.url, jwks_refresh="1s"))
    await eventually(lambda: i.hits >= 3)
    assert condition not in i.requests[0] and i.requests[1][condition] == tag
    await enter(daemon, key.token())
    f = await fetches(daemon)
    assert f["changed"] == 1 and f["unchanged"] >= 1 and f["failed"] == 0
    i.answer = key_set(new)		# without a tag: no condition from then on
    await eventually(lambda: is_in(daemon, new.token()), PATIENCE, 0.1)
    n = i.hits
    await eventually(lambda: i.hits > n)
    assert condition not in i.requests[-1]


async def test_304_that_nobody_asked_for(start, issuer):
    i = issuer(lambda handler: reply(handler, 304))
    daemon = start(settings(i.url))
    assert (await fetches(daemon))["failed"] >= 1


# --- what is no key set


def redirect(to, status=302):
    def answer(handler):
        reply(handler, status, b"", {"Location": to})

    return answer


def cut_chunk(handler):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"1000\r\n" + key_set(Key("evil"))[:50])


def no_http(handler):
    handler.wfile.write(b"\x16\x03\x01 hello\r\n" * 20)


def endless_head(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for n in range(20000):
        handler.wfile.write(b"X-%d: %s\r\n" % (n, b"y" * 100))


def large(handler):
    reply(handler, 200, key_set(Key("evil")) + b" " * (1 << 20))


def large_unannounced(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(key_set(Key("evil")))
    for _ in range(64):
        handler.wfile.write(b" " * (1 << 16))


def bomb(handler):
    # Members of a gzip file follow each other as their contents do: 200 MB from one that is made at once.
    packed = gzip.compress(b'{"keys":[') + gzip.compress(b" " * (1 << 20)) * 200
    reply(handler, 200, packed, {"Content-Encoding": "gzip"})


def half(handler):
    body = key_set(Key("evil"))
    reply(handler, 200, body, length=len(body) + 10)


HOSTILE = {
    "status 500": lambda h: reply(h, 500, key_set(Key("evil"))),
    "status 401": lambda h: reply(h, 401, key_set(Key("evil")), {"WWW-Authenticate": "Basic realm=x"}),
    "status 204": lambda h: reply(h, 204),
    "redirect loop": lambda h: redirect(h.path)(h),
    "redirect to a file": redirect("file:///etc/passwd"),
    "redirect to another protocol": redirect("gopher://127.0.0.1/x"),
    "redirect to http elsewhere": redirect("http://192.0.2.1/keys"),
    "redirect to another port": redirect("http://127.0.0.1:9/keys"),
    "redirect with a password": lambda h: redirect(f"http://user:password@127.0.0.1:{h.server.server_address[1]}/keys")(h),
    "redirect to nowhere": redirect(""),
    "too large": large,
    "too large, not announced": large_unannounced,
    "gzip bomb": bomb,
    "half an answer": half,
    "half a chunk": cut_chunk,
    "no HTTP": no_http,
    "endless head": endless_head,
    "nothing": lambda h: None,
    "empty": b"",
    "HTML": b"<html>Sign in</html>",
    "an array": b"[]",
    "another object": b'{"error": "no"}',
    "keys no array": b'{"keys": {"kid": "k1"}}',
    "no keys": b'{"keys": []}',
    "duplicate member": lambda h: reply(h, 200, b'{"keys":[],"keys":[' + json.dumps(Key("evil").jwk()).encode() + b"]}"),
    "symmetric key": lambda h: reply(h, 200, key_set({"kty": "oct", "kid": "evil", "alg": "HS256", "k": "A" * 43})),
    "private key": lambda h: reply(h, 200, key_set(Key("evil").jwk(d="A" * 43))),
    "key for encryption": lambda h: reply(h, 200, key_set(Key("evil").jwk(use="enc"))),
    "point off the curve": lambda h: reply(h, 200, key_set(Key("evil").jwk(y="A" * 43))),
    "deep": b'{"keys":' + b"[" * 100000 + b"]" * 100000 + b"}",
    "not UTF-8": b'{"keys":["\xff\xfe"]}',
    "NUL": b'{"keys":[]}\0',
}


async def test_hostile_answers(start, issuer, tmp_path):
    """Whatever comes, the keys there are stay, the process lives, and the next good answer counts."""
    at = {name: (issuer(), Key(f"k{n}")) for n, name in enumerate(HOSTILE)}
    blocks(tmp_path / "hostile", *({"issuer": f"https://{key.kid}", "jwks_url": i.url} for i, key in at.values()))
    for i, key in at.values():
        i.answer = key_set(key)
    daemon = start({"auth.jwt_secret": "", "auth.jwks_refresh": "1s", "auth.jwks_cooldown": "1h"}, folder=tmp_path / "hostile")

    async def stale(count):
        return await daemon.metric("belay_key_sets_stale") == count

    for name, (i, _) in at.items():
        i.answer = HOSTILE[name]
    await eventually(lambda: stale(len(at)))
    for i, key in at.values():
        await enter(daemon, key.token(iss=f"https://{key.kid}"))
    for i, key in at.values():
        i.answer = key_set(key)
    daemon.process.send_signal(signal.SIGHUP)		# what failed is tried again at once
    await eventually(lambda: stale(0))
    assert (await fetches(daemon))["changed"] == len(at)
    assert await daemon.metric("belay_worker_deaths_total") == 0


async def test_good_keys_beside_bad(start, issuer):
    good, evil = Key("k1"), Key("evil")
    secret = "s" * 43
    i = issuer(key_set({"kty": "oct", "kid": "sym", "alg": "HS256", "k": secret}, evil.jwk(d="A" * 43), 7, None, {}, good))
    daemon = start(settings(i.url, jwks_cooldown="1h"))
    await enter(daemon, good.token())
    await refused(daemon, evil.token())
    claims = {"sub": "u", "exp": int(time.time()) + 60}
    await refused(daemon, jwt.encode(claims, base64.urlsafe_b64decode(secret + "="), algorithm="HS256", headers={"kid": "sym"}))
    await refused(daemon, jwt.encode(claims, secret, algorithm="HS256", headers={"kid": "sym"}))


async def test_redirects(start, issuer):
    key = Key("k1")

    def hops(n):
        def answer(handler):
            at = int(handler.path.rsplit("/", 1)[-1]) if handler.path[-1].isdigit() else 0
            if at < n:
                reply(handler, (301, 307, 302, 308)[at], b"x" * 100, {"Location": f"/hop/{at + 1}"})
            else:
                reply(handler, 200, key_set(key))

        return answer

    i = issuer(hops(3))
    daemon = start(settings(i.url))
    await enter(daemon, key.token())
    assert i.hits == 4
    j = issuer(hops(4))
    daemon = start(settings(j.url))
    await refused(daemon, key.token())


async def test_stale_on_error(start, issuer):
    """One line in the log when it begins and one when it is over, and pauses that grow."""
    key = Key("k1")
    i = issuer(key_set(key))
    daemon = start(settings(i.url, jwks_refresh="1s", jwks_cooldown="1h"))
    i.answer = lambda handler: reply(handler, 503)
    await eventually(lambda: daemon.log_text().count("stay in use") == 1)
    n = i.hits
    await asyncio.sleep(5)
    assert 1 <= i.hits - n <= 3		# after about 1, 3 and 7 s
    assert await daemon.metric("belay_key_sets_stale") == 1
    assert await everywhere(daemon, key.token(), True)
    i.answer = key_set(key)
    await eventually(lambda: "fetched again" in daemon.log_text())
    assert await daemon.metric("belay_key_sets_stale") == 0
    assert daemon.log_text().count("stay in use") == 1 and daemon.log_text().count("fetched again") == 1


# --- several issuers


def blocks(folder, *issuers):
    lines = ",\n".join("{ " + " ".join(f'{k} = "{v}";' for k, v in i.items()) + " }" for i in issuers)
    folder.mkdir(exist_ok=True)
    (folder / "belayd.conf").write_text(f"auth: {{ issuers = (\n{lines} ); }};\n")


async def test_two_issuers(start, issuer, tmp_path):
    a, b = Key("same"), Key("same")
    at_a, at_b = issuer(key_set(a)), issuer(key_set(b))
    folder = tmp_path / "two"
    blocks(folder, {"issuer": "https://a", "jwks_url": at_a.url}, {"issuer": "https://b", "jwks_url": at_b.url},
           {"issuer": "https://b2", "jwks_url": at_b.url})
    daemon = start({"auth.jwt_secret": "", "auth.jwks_cooldown": "1s"}, folder=folder)
    for key, iss, good in ((a, "a", True), (b, "b", True), (b, "b2", True), (a, "b", False), (b, "a", False), (a, "c", False)):
        assert await everywhere(daemon, key.token(iss=f"https://{iss}"), good, 6), iss
    assert at_a.hits == 1 and at_b.hits == 1, "one fetch for each address"
    # One issuer's trouble is not the other's.
    new = Key("new")
    at_a.answer, at_b.answer = after(8, b""), key_set(b, new)
    began = time.monotonic()
    waiting = asyncio.ensure_future(refused(daemon, new.token(iss="https://a")))
    await asyncio.sleep(0.2)
    await takes(daemon, enter(daemon, new.token(iss="https://b")), 0, 2)
    await takes(daemon, enter(daemon, new.token(iss="https://b2")), 0, 2)
    await waiting
    assert time.monotonic() - began > 2.5


async def test_block_takes_the_flat_url(start, issuer, tmp_path):
    key = Key("k1")
    i = issuer(key_set(key))
    folder = tmp_path / "flat"
    blocks(folder, {"issuer": "https://a"})
    daemon = start(settings(i.url), folder=folder)
    await enter(daemon, key.token(iss="https://a"))
    await refused(daemon, key.token(iss="https://b"))


async def test_secret_beside_url(start, issuer):
    """Keys of both kinds may be set."""
    key = Key("k1")
    i = issuer(key_set(key))
    daemon = start({"auth.jwks_url": i.url})
    await enter(daemon, key.token())
    await (await daemon.user("alice")).close()
    assert i.hits == 1


async def test_reload(start, issuer, tmp_path):
    """Another address is taken up without a restart, and what there is of the first stays without being fetched again."""
    a, b = Key("k1"), Key("k2")
    at_a, at_b = issuer(key_set(a)), issuer(key_set(b))
    folder = tmp_path / "reload"
    blocks(folder, {"issuer": "https://a", "jwks_url": at_a.url})
    daemon = start({"auth.jwt_secret": ""}, folder=folder)
    c = await daemon.open("/ws", {"Authorization": f"Bearer {a.token(iss='https://a')}"})
    blocks(folder, {"issuer": "https://b", "jwks_url": at_b.url}, {"issuer": "https://a", "jwks_url": at_a.url})
    daemon.process.send_signal(signal.SIGHUP)
    await eventually(lambda: everywhere(daemon, b.token(iss="https://b"), True, 8), PATIENCE, 0.1)
    assert await everywhere(daemon, a.token(iss="https://a"), True, 8)
    assert at_a.hits == 1 and at_b.hits <= 2	# a token may have come before its gateway had the set
    blocks(folder, {"issuer": "https://b", "jwks_url": at_b.url})
    daemon.process.send_signal(signal.SIGHUP)
    await eventually(lambda: everywhere(daemon, a.token(iss="https://a"), False, 8), PATIENCE, 0.1)
    assert await c.closed() == (1008, "Invalid token")		# with the key that it came by
    assert await everywhere(daemon, b.token(iss="https://b"), True, 8)


async def test_first_url_at_a_reload(start, issuer, tmp_path):
    """There is no process to fetch it: the settings in force stay, and the log says what to do."""
    key = Key("k1")
    i = issuer(key_set(key))
    folder = tmp_path / "first"
    folder.mkdir()
    daemon = start(folder=folder)
    (folder / "belayd.conf").write_text(f'auth: {{ jwks_url = "{i.url}"; tenant_members = "view"; }};\n')
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.counted("belay_reloads_refused_total", 1)
    assert "restart" in daemon.log_text()
    await (await daemon.user("alice")).close()
    await refused(daemon, key.token())
    assert i.hits == 0
    daemon.stop()
    daemon.start()
    await enter(daemon, key.token())


# --- processes die


async def test_keys_process_is_killed(start, issuer):
    key, new = Key("k1"), Key("k2")
    i = issuer(key_set(key))
    daemon = start(settings(i.url, jwks_cooldown="1s"))
    for n in range(3):
        (pid,) = processes(daemon, "keys").values()
        os.kill(pid, signal.SIGKILL)
        assert await everywhere(daemon, key.token(), True)
        await eventually(lambda: i.hits == n + 2)
    assert await everywhere(daemon, key.token(), True)
    i.answer = key_set(new)
    await eventually(lambda: is_in(daemon, new.token()), PATIENCE, 0.2)
    await eventually(lambda: everywhere(daemon, key.token(), False))


async def test_keys_process_is_killed_while_tokens_wait(start, issuer):
    key, new = Key("k1"), Key("k2")
    i = issuer(key_set(key))
    daemon = start(settings(i.url, jwks_cooldown="1s"))
    i.answer = after(1.5, key_set(key, new))
    waiting = asyncio.ensure_future(is_in(daemon, new.token()))
    await eventually(lambda: i.hits == 2)
    (pid,) = processes(daemon, "keys").values()
    os.kill(pid, signal.SIGKILL)
    await waiting	# in or not: its 3 s may be over before the new process has the set
    await eventually(lambda: is_in(daemon, new.token()), PATIENCE, 0.2)


async def test_gateway_is_killed(start, issuer):
    """A new gateway has the present keys from its first client on, without a fetch."""
    key = Key("k1")
    i = issuer(key_set(key))
    daemon = start(settings(i.url, jwks_cooldown="1h"), workers=1)
    for _ in range(5):
        await kill(daemon, "gateway 1")		# the next one is there: the dead one takes nobody with it
        await enter(daemon, key.token())
    assert i.hits == 1


# --- HTTPS


def certificate(folder, host):
    """A private authority and a server's certificate for the address: (CA file, server's context)."""
    def make(name, issuer=None, signer=None, extensions=()):
        k = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        b = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject).public_key(k.public_key())
             .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
             .not_valid_after(now + datetime.timedelta(days=1)))
        for e, critical in extensions:
            b = b.add_extension(e, critical)
        return k, b.sign(signer or k, hashes.SHA256())

    pem = serialization.Encoding.PEM
    ca_key, ca = make("Belay test CA", extensions=[(x509.BasicConstraints(True, None), True)])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    key, cert = make("server", ca.subject, ca_key, [(names, False)])
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "server.pem").write_bytes(cert.public_bytes(pem) + key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return str(folder / "ca.pem"), context


async def test_private_authority(start, issuer, tmp_path):
    key = Key("k1")
    ca, context = certificate(tmp_path, "127.0.0.1")
    i = issuer(key_set(key), context)
    assert i.url.startswith("https://")
    daemon = start(settings(i.url, jwks_ca_file=ca))
    assert await everywhere(daemon, key.token(), True)
    # The system's authorities do not know this server.
    other = start(settings(i.url))
    await refused(other, key.token())
    assert (await fetches(other))["failed"] >= 1
    assert i.hits == 1
    # TLS and no word behind it, or no TLS at all.
    plain = issuer(key_set(key))
    third = start(settings(plain.url.replace("http:", "https:"), jwks_ca_file=ca))
    assert (await fetches(third))["failed"] >= 1


async def test_certificate_of_another_host(start, issuer, tmp_path):
    key = Key("k1")
    ca, context = certificate(tmp_path, "127.0.0.9")
    i = issuer(key_set(key), context)
    daemon = start(settings(i.url, jwks_ca_file=ca))
    assert (await fetches(daemon))["failed"] >= 1
    assert i.hits == 0


async def test_https_stays_https(start, issuer, tmp_path):
    """A redirect from https leads to https only, not even to http on loopback."""
    key = Key("k1")
    ca, context = certificate(tmp_path, "127.0.0.1")
    plain, end = issuer(key_set(key)), issuer(key_set(key), context)
    i = issuer(redirect(plain.url), context)
    daemon = start(settings(i.url, jwks_ca_file=ca))
    assert (await fetches(daemon))["failed"] >= 1 and plain.hits == 0
    i.answer = redirect(end.url)
    await eventually(lambda: is_in(daemon, key.token()), PATIENCE, 0.2)
    assert end.hits >= 1


async def test_proxy(start, issuer, tmp_path):
    """None that the environment names; the one that the settings name."""
    key = Key("k1")
    ca, context = certificate(tmp_path, "127.0.0.2")
    i = issuer(key_set(key), context, host="127.0.0.2")
    asked = []

    def connect():
        with contextlib.suppress(OSError):
            while True:
                s, _ = listener.accept()
                head = s.recv(4096)
                asked.append(head.split(b"\r\n")[0])
                s.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                onward = socket.create_connection(("127.0.0.2", i.port))
                for a, b in ((s, onward), (onward, s)):
                    threading.Thread(target=pump, args=(a, b), daemon=True).start()

    def pump(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=connect, daemon=True).start()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        env = {n: proxy for n in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")}
        daemon = start(settings(i.url, jwks_ca_file=ca), env=env)
        await enter(daemon, key.token())
        assert asked == []
        daemon = start(settings(i.url, jwks_ca_file=ca, jwks_proxy=proxy))
        await enter(daemon, key.token())
        assert asked == [f"CONNECT 127.0.0.2:{i.port} HTTP/1.1".encode()]


# --- settings


@pytest.mark.parametrize("url", ["http://192.0.2.1/keys", "http://127.0.0.1.example.org/keys", "http://localhost@example.org/",
                                 "ftp://example.org/keys", "file:///etc/passwd", "https://", "https://user:password@example.org/",
                                 "https:///keys", "https://example.org/ keys", "http://127.0.0.1:80x/", "https://" + "x" * 1100])
def test_addresses_that_are_not_taken(tmp_path, url):
    daemon = Belayd(tmp_path, settings(url))
    out = subprocess.run(daemon.command("-t"), capture_output=True, text=True)
    assert out.returncode == 1 and "auth.jwks_url" in out.stderr, out.stderr
    assert "password@" not in out.stderr


@pytest.mark.parametrize("url", ["https://example.org/keys", "https://example.org:8443", "https://[2001:db8::1]/keys?a=b", "http://127.0.0.1/",
                                 "http://localhost:8080/keys", "http://[::1]:80/keys"])
def test_addresses_that_are_taken(tmp_path, url):
    daemon = Belayd(tmp_path, settings(url))
    out = subprocess.run(daemon.command("-t"), capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
