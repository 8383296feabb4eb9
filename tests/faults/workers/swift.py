"""Speaks the wire protocol without importing anything that takes time, so that it can be started hundreds of times.

Its first argument says how it starts, its second what it does at Stop. Of a call it looks at the name only, and gives
back an argument that is a number below 128.
"""

import os
import sys
import time

START, STOP = sys.argv[1:]
NONE = b"\xc0"


def exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data


def receive() -> bytes:
    total = int.from_bytes(exactly(4), "little")
    exactly(4)
    return exactly(total)


def send(kind: int, *elements: bytes) -> None:
    body = bytes([0x91 + len(elements), kind]) + b"".join(elements)
    size = len(body).to_bytes(4, "little")
    os.write(1, size + size + body)


def text(value: str) -> bytes:
    return bytes([0xA0 + len(value)]) + value.encode()


def split(message: bytes) -> tuple[bytes, str, bytes]:
    """Return the id, the name and the first argument of a call."""
    at = 3 if message[2] < 0x80 else 4 if message[2] == 0xCC else 5
    end = at + 1 + message[at] - 0xA0
    return message[2:at], message[at + 1 : end].decode(), message[end + 1 : end + 2] if message[end] > 0x90 else NONE


def run(id: bytes, name: str, value: bytes) -> None:
    if name == "slow":
        time.sleep(0.02)
    elif name == "never":
        send(35, id, b"\x01")  # an update: it has begun
        time.sleep(60)
    elif name == "heeds":
        send(35, id, b"\x01")
        receive()
    if name == "fails":
        send(34, id, b"\x94" + text("raised") + text("builtins") + text("ValueError") + text("told to"))
    else:
        send(33, id, value)


receive()
if START == "fails":
    sys.exit("no API key")
elif START == "slow":
    time.sleep(0.02)
elif START == "never":
    time.sleep(60)
heeds = b"\x97" + text("heeds") + text("m") + text("heeds") + NONE + b"\x00" + text("plain") + b"\xc3"
send(32, b"\x01", b"\xce" + os.getpid().to_bytes(4, "big"), text("swift"), b"\x91" + heeds, b"\x01")
while True:
    message = receive()
    if message[1] == 2:
        run(*split(message))
    elif message[1] == 6:
        if STOP == "never":
            time.sleep(60)
        os._exit(3 if STOP == "fails" else 0)
