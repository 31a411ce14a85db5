"""Pages of other origins, heads of all sizes, and the lists that browsers and scripts page through."""

import re
import subprocess
from pathlib import Path

import pytest
import websockets

from belay import BUILD, clean_environment, token
from narrow import Narrow

ASKED = "authorization, x-request-id,traceparent"


def cors(headers):
    return {k.lower(): v for k, v in headers.items() if k.lower().startswith("access-control-")}


@pytest.mark.parametrize("listed, good, bad", [
    ("https://*.example.org", ["https://app.example.org", "https://a.b.example.org", "https://app.example.org:443"],
     ["https://example.org", "http://app.example.org", "https://app.example.org.evil", "https://evilexample.org", "https://.example.org",
      "https://evil/.example.org", "https://app.example.org:8443", "https://user@app.example.org"]),
    ("https://app.example.org:443", ["https://app.example.org", "https://app.example.org:443"], ["http://app.example.org", "https://app.example.org:80"]),
    ("http://app.example.org:80", ["http://app.example.org"], ["https://app.example.org", "http://app.example.org:443"]),
    ("https://*.example.org:8443", ["https://app.example.org:8443"], ["https://app.example.org"]),
])
async def test_origins(start, listed, good, bad):
    """A pattern does what it says, for sockets and for requests; a refused origin is counted."""
    d = start({"auth.origins": f"https://other.example,{listed}"}, workers=1)
    for origin in good:
        c = await d.open(f"/ws?token={token()}", origin=origin)
        await c.close()
        _, headers, _ = await d.rest("GET", "/health", bearer="", headers={"Origin": origin}, raw=True)
        assert cors(headers)["access-control-allow-origin"] == origin
    assert await d.metric("belay_origins_refused_total") == 0
    for origin in bad:
        with pytest.raises(websockets.InvalidStatusCode) as e:
            await d.raw(f"/ws?token={token()}", origin=origin)
        assert e.value.status_code == 403, origin
        _, headers, _ = await d.rest("GET", "/health", bearer="", headers={"Origin": origin}, raw=True)
        assert cors(headers) == {}, origin
    assert await d.metric("belay_origins_refused_total") == 2 * len(bad)


@pytest.mark.parametrize("origin", ["https://*", "https://*.", "https://*.org", "https://app.*.example.org", "https://*app.example.org",
                                    "*", "https://*.*.example.org", "https://*..example.org", "*://app.example.org"])
def test_origins_that_mean_nothing(belayd, origin):
    out = subprocess.run(belayd.command("-t", "-o", f"auth.origins={origin}"), capture_output=True, text=True, env=clean_environment())
    assert out.returncode == 1 and "auth.origins" in out.stdout + out.stderr


async def test_preflight_takes_what_is_asked_for(start):
    d = start({"auth.origins": "https://app.example.org"}, workers=1)
    asks = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": ASKED}
    status, headers, _ = await d.rest("OPTIONS", "/api/device/x", bearer="", headers={"Origin": "https://app.example.org", **asks}, raw=True)
    assert status == 204 and cors(headers)["access-control-allow-headers"] == ASKED and "PUT" in cors(headers)["access-control-allow-methods"]
    for odd in ("a b\x7f", "x" * 2000, '"x"', ""):
        c = Narrow(d, upgrade=False)
        c.send(("OPTIONS /api/device/x HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example.org\r\nConnection: close\r\n"
                f"Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: {odd}\r\n\r\n").encode())
        while c.more():
            pass
        assert c.data.startswith(b"HTTP/1.1 400 ") or b"Access-Control-Allow-Headers: Authorization, Content-Type, Idempotency-Key\r\n" in c.data
    status, headers, _ = await d.rest("OPTIONS", "/api/device/x", bearer="", headers={"Origin": "https://evil.example", **asks}, raw=True)
    assert status == 204 and cors(headers) == {}


@pytest.mark.parametrize("size", [16384, 4096])
async def test_head_size(start, size):
    """A head of limits.head_size is taken, also with a large token or many cookies in it; one byte more is not."""
    d = start({"limits.head_size": size} if size != 16384 else {}, workers=1)

    def status(text):
        c = Narrow(d, upgrade=False)
        c.send(text.encode())
        while c.more():
            pass
        return int(c.data.split()[1])

    def head(path, n):
        begin = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: "
        return begin + "c" * (n - len(begin) - 4) + "\r\n\r\n"

    assert status(head("/health", size)) == 200
    assert status(head("/health", size + 1)) == 431
    assert status(head("/health?" + "a" * (size * 3 // 4 - 20), size)) == 200
    assert status(head("/health?" + "a" * (size * 3 // 4), size)) == 414


async def pages(d, query, bearer=None):
    """All ids that a list of devices goes through, and how many pages that takes."""
    ids, cursor, n = [], "", 0
    while cursor is not None:
        status, body = await d.rest("GET", f"/api/device?{query}&cursor={cursor}", bearer=bearer)
        assert status == 200, body
        ids += [x["deviceId"] for x in body["devices"]]
        cursor, n = body["nextCursor"], n + 1
    return ids, n


async def test_cursor_of_devices_is_sealed(belayd):
    """Any text ended the list, and an id was a cursor; only what the server gave to this tenant for this list is one."""
    ids = [f"sealed.{i}@x" for i in range(5)] + ["s" * 64]
    for i in ids:
        await belayd.register(i)
    got, n = await pages(belayd, "limit=2")
    assert sorted(ids) == [i for i in got if i in ids] and n >= 3
    _, body = await belayd.rest("GET", "/api/device?limit=1")
    good = body["nextCursor"]
    other = ("B" if good[0] == "A" else "A") + good[1:]
    bad = ["x", "sealed.1@x", "%00", "AAAA", "A" * 22, "A" * 107, "A" * 1000, good[:-1], good + "A", other, good[:22], good[22:],
           "%2B".join((good[:5], good[6:]))]
    _, body = await belayd.rest("GET", "/api/events?limit=1")
    bad.append(body["nextCursor"])
    for cursor in bad:
        status, body = await belayd.rest("GET", f"/api/device?cursor={cursor}")
        assert status == 422 and body["error"]["field"] == "cursor", (cursor, body)
    await belayd.register("theirs", bearer=token("u9", "t9"))
    for bearer in (token("u9", "t9"), token("u8", "no-such-tenant")):
        status, body = await belayd.rest("GET", f"/api/device?cursor={good}", bearer=bearer)
        assert status == 422 and body["error"]["field"] == "cursor", body
    # The place in the list stays when its device has gone.
    status, body = await belayd.rest("GET", "/api/device?limit=2&q=sealed")
    await belayd.rest("DELETE", f"/api/device/{body['devices'][1]['deviceId']}")
    status, after = await belayd.rest("GET", f"/api/device?limit=2&q=sealed&cursor={body['nextCursor']}")
    assert [x["deviceId"] for x in after["devices"]] == ids[2:4]


async def test_ids_that_are_words_of_routes(belayd):
    """No device has an id that another route answers, or that a client takes out of a path."""
    routes = (Path(__file__).resolve().parents[2] / "src/http/routes.def").read_text()
    words = set(re.findall(r'"/api/device/([a-z]+)"', routes)) | {"import", "export", ".", ".."}
    assert {"register", "stats"} <= words
    for word in words:
        status, body = await belayd.rest("POST", "/api/device/register", {"deviceId": word, "name": "n"})
        assert status == 422 and body["error"]["field"] == "deviceId", (word, body)
    for word in ("statistics", "Stats", "...", "a.", "registered"):
        await belayd.register(word)


async def test_belayctl_lists_all_pages(start):
    """Where an answer holds some devices only, the next one is asked for, to the last."""
    d = start({"memory.mailbox": "64K"}, workers=1)
    ids = [f"d{i:03}" for i in range(60)]
    for i in ids:
        await d.register(i, metadata={"text": "x" * 300})
    got, n = await pages(d, "limit=500")
    assert got == ids and n > 1
    out = subprocess.run([BUILD / "belayctl", "-u", d.http, "device", "list"], capture_output=True, text=True,
                         env=clean_environment(BELAY_TOKEN=token()))
    assert out.returncode == 0 and [line.split()[0] for line in out.stdout.splitlines()[1:]] == ids, out


async def test_counters_of_bad_heads_and_takeovers(start):
    d = start(workers=1)
    for text in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/2.0\r\nHost: x\r\n\r\n"):
        c = Narrow(d, upgrade=False)
        c.send(text)
        while c.more():
            pass
    assert await d.metric("belay_http_bad_requests_total") == 3
    secret = await d.register("d1")
    older = await d.device("d1", secret)
    newer = await d.device("d1", secret)
    assert (await older.closed())[0] == 4009
    assert await d.metric("belay_connections_replaced_total") == 1
    await newer.close()
