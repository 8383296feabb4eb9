"""Takes and sends buffers by the letter of the protocol, or wrongly, as the command says."""

import os
import struct
import sys
from typing import Any

import msgspec
import speak


def receive() -> tuple[list[Any], bytes]:
    """Return the next call, and the bytes behind its body; answer pings."""
    while True:
        total, body = struct.unpack("<II", speak.exactly(8))
        data = speak.exactly(total)
        message = msgspec.msgpack.decode(data[:body])
        if message[0] == speak.CALL:
            return message, data[body:]
        if message[0] == speak.STOP:
            os._exit(0)
        speak.send(speak.PONG, message[1])


def answer(number: int, place: list[Any], lengths: list[int], behind: bytes) -> None:
    """Answer with the value at *place*."""
    value = msgspec.msgpack.Ext(7, msgspec.msgpack.encode(place))
    body = msgspec.msgpack.encode((speak.RESULT, number, value, lengths))
    speak.write(struct.pack("<II", len(body) + len(behind), len(body)) + body + behind)


speak.receive()
speak.send(*speak.ready(), 0, sys.argv[1] == "takes")
while True:
    message, behind = receive()
    number, command, args, lengths = message[1], message[2], message[3], message[8]
    if command == "seen":
        inside = [each if isinstance(each, bytes) else list(each.data) for each in args]
        speak.answer(message, [inside, lengths, behind])
    elif command == "back":
        answer(number, [0], [len(args[0])], args[0])
    elif command == "too long":
        answer(number, [0], [8], b"seven b")
    elif command == "missing":
        answer(number, [1], [3], b"one")
    elif command == "no buffer":
        answer(number, [0], [8], b"")
    elif command == "negative":
        answer(number, [0], [-1, 4], b"one")
    elif command == "no array":
        answer(number, [0, "<f8", [2], "C"], [3], b"one")
