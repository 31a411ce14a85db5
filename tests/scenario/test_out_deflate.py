"""One message to many that compress is compressed once for each size of window, and counted."""

import json

import pytest

from belay import token
from narrow import TEXT, Narrow

BITS = (9, 10, 12, 15)


@pytest.fixture(scope="module")
def belayd(tmp_path_factory):
    import belay
    import conftest
    d = belay.Belayd(tmp_path_factory.mktemp("belayd"), {"ws.deflate": "yes", "limits.requests_per_user": 0}, workers=1).start()
    yield d
    assert d.stop() == 0
    conftest.check_log(d)


def open_all(d, each):
    """`each` dashboards for each size of window, and one that does not compress."""
    out = [Narrow(d, "/ws", token())]
    for bits in BITS:
        extension = f"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}\r\n"
        out += [Narrow(d, "/ws", token(), extra=extension) for _ in range(each)]
    assert b"permessage-deflate" in out[-1].head and b"permessage-deflate" not in out[0].head
    for c in out:
        assert c.read()[0] == TEXT		# connected
    return out


# What the compressor makes of it: smaller, no smaller, or it is too short to be given to it.
TEXTS = {"rows": [{"id": i, "name": f"device number {i}"} for i in range(200)],
         "noise": "".join(chr(33 + (i * i * 7919 + i * 104729) % 90) for i in range(20)) * 3, "short": "x"}


@pytest.mark.parametrize("text", TEXTS)
async def test_once_for_each_window(belayd, text):
    clients = open_all(belayd, 8)
    before = await belayd.metric("belay_messages_compressed_total")
    bearer = token("svc", role="service")
    rounds = 5
    plain = len(json.dumps(TEXTS[text]))
    for _ in range(rounds):
        status, body = await belayd.rest("POST", "/v1/websocket/broadcast", {"type": "x.y", "payload": {"v": TEXTS[text]}}, bearer)
        assert (status, body["connections"]) == (200, len(clients))
        sizes = set()
        for c in clients:
            opcode, payload = c.read()
            assert opcode == TEXT
            sizes.add(len(payload))
        assert text != "rows" or min(sizes) < plain / 3
    times = await belayd.metric("belay_messages_compressed_total") - before
    assert times == (0 if text == "short" else rounds * len({12 if b > 12 else b for b in BITS})), times
    for c in clients:
        c.close()


async def test_telemetry_too(belayd):
    """What a device says goes to its viewers by another way than a broadcast."""
    device = await belayd.device("packed-1", await belayd.register("packed-1"))
    clients = open_all(belayd, 5)
    before = await belayd.metric("belay_messages_compressed_total")
    for i in range(10):
        await device.send("telemetry", {"data": {"i": i, "text": "the same again " * 20}})
        for c in clients:
            assert c.read()[0] == TEXT
    assert await belayd.metric("belay_messages_compressed_total") - before == 10 * 3
    for c in clients:
        c.close()
    await device.close()
