"""Connections that end in the moment in which the process begins to leave."""

import signal
import socket

from belay import eventually, token
from fleet import stopped

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def answered(port):
    """A connection that was answered for the last time, and is still open here: its end is waited for."""
    s = socket.create_connection(("127.0.0.1", port), 30)
    s.sendall(HEALTH)
    while s.recv(65536):
        pass
    return s


async def test_ended_when_the_drain_begins(start):
    """What had ended in the same turn of the loop was given a new time, and was gone when that came: the gateway died of it."""
    daemon = start({"server.drain_time": "6s"}, workers=1)
    # Half a request keeps the gateway here until the drain has no time left.
    half = socket.create_connection(("127.0.0.1", daemon.port), 30)
    half.sendall(f"POST /api/command HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\nContent-Length: 10\r\n\r\n1".encode())
    over = [answered(daemon.port) for _ in range(20)]
    (pid,) = daemon.workers("gateway").values()
    with stopped(pid):
        for s in over:
            s.close()
        daemon.process.send_signal(signal.SIGTERM)
        await eventually(lambda: "stopping" in daemon.log_text())
    await eventually(lambda: daemon.process.poll() is not None)
    assert daemon.process.returncode == 0
    half.close()
