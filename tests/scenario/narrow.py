"""A client that reads when it is told to, with a small window and no library between: what waits for it waits in belayd."""

import contextlib
import json
import socket
import struct
import time

from belay import PATIENCE
from fleet import pss

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
WINDOW = 65536


def frame(opcode, payload=b"", fin=True):
    mask, n = b"\x12\x34\x56\x78", len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    head += bytes([0x80 | n]) if n < 126 else b"\xfe" + struct.pack(">H", n) if n < 65536 else b"\xff" + struct.pack(">Q", n)
    key = int.from_bytes((mask * (n // 4 + 1))[:n], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(n, "big")


class Narrow:
    def __init__(self, daemon, path="/ws", bearer=None, tls=None, port=None, extra="", upgrade=True):
        self.s = socket.socket()
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)		# before it connects, or its window is wide by then
        self.s.settimeout(PATIENCE)
        self.s.connect(("127.0.0.1", port or daemon.port))
        self.local = self.s.getsockname()[1]
        if tls is not None:
            self.s = tls.wrap_socket(self.s, server_hostname="localhost")
        self.daemon, self.data, self.count = daemon, b"", 0
        if not upgrade:
            return
        more = (f"Authorization: Bearer {bearer}\r\n" if bearer else "") + extra
        self.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n".encode())
        while b"\r\n\r\n" not in self.data:
            assert self.more(), self.data
        self.head, _, self.data = self.data.partition(b"\r\n\r\n")
        assert b" 101 " in self.head, self.head

    def send(self, data):
        self.s.sendall(data)

    def more(self, most=65536):
        """Takes some of what has come; false at the connection's end."""
        got = b""
        with contextlib.suppress(ConnectionResetError):
            got = self.s.recv(most)
        self.data += got
        self.count += len(got)
        return got != b""

    def read(self):
        """(opcode, payload) of the next frame, or None when TCP ended."""
        while True:
            if len(self.data) >= 2:
                n, at = self.data[1] & 127, 2
                if n >= 126:
                    at = 4 if n == 126 else 10
                    n = int.from_bytes(self.data[2:at], "big") if len(self.data) >= at else 1 << 62
                if len(self.data) >= at + n:
                    opcode, payload = self.data[0] & 15, self.data[at:at + n]
                    self.data = self.data[at + n:]
                    return opcode, payload
            if not self.more():
                return None

    def message(self):
        """The next message, pings answered; (code, reason) when it was closed; None when it broke."""
        end = time.monotonic() + PATIENCE
        while (f := self.read()) is not None:
            assert time.monotonic() < end, "pings come, and no message"
            if f[0] == TEXT:
                return json.loads(f[1])
            if f[0] == CLOSE:
                return int.from_bytes(f[1][:2], "big"), f[1][2:].decode()
            if f[0] == PING:
                self.send(frame(PONG, f[1]))
        return None

    def expect(self, type):
        while (m := self.message()) is not None and isinstance(m, dict) and m["type"] != type:
            pass
        return m

    def waiting(self):
        """Bytes that belayd's kernel holds for it."""
        with open("/proc/net/tcp") as f:
            for line in f:
                _, local, remote, _, queues = line.split()[:5]
                if remote.endswith(f":{self.local:04X}") and not local.endswith(f":{self.local:04X}"):
                    return int(queues.split(":")[0], 16)
        return 0

    def is_read(self, timeout=PATIENCE):
        """Waits until belayd has taken all that was sent."""
        end = time.monotonic() + timeout
        while True:
            unread = 0
            with open("/proc/net/tcp") as f:
                for line in f:
                    _, local, remote, _, queues = line.split()[:5]
                    port = f":{self.local:04X}"
                    if local.endswith(port):
                        unread += int(queues.split(":")[0], 16)
                    elif remote.endswith(port):
                        unread += int(queues.split(":")[1], 16)
            if unread == 0 or not self.is_open():
                return
            assert time.monotonic() < end, "belayd does not read"
            time.sleep(0.02)

    def is_open(self):
        """Has belayd still its end of it?"""
        with open("/proc/net/tcp") as f:
            return any(line.split()[2].endswith(f":{self.local:04X}") and line.split()[3] == "01" for line in f)

    def fill(self, one, at_once=2000):
        """Sends what is answered, until the kernel takes no more answers.  The peer must answer each with as many bytes."""
        before = -1
        while (now := self.waiting()) != before or now == 0:
            before = now
            with contextlib.suppress(OSError):
                self.send(one * at_once)
            self.is_read()
            if not self.is_open():
                break

    def close(self):
        self.s.close()


def memory(daemon):
    """Bytes that the gateways have of their own."""
    return sum(pss(pid) for pid in daemon.workers("gateway").values())
