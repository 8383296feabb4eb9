"""Answers with many bytes and dies as its caller says; otherwise it echoes.

"answer and die": after the answer, once a byte of the next frame is there.
"answer early and die": before it has read its own call to the end, so that the rest of it lies unread in the kernel.
"""

import os
import select
import socket

import speak

ID = 10  # where the id stands in a call's frame, after the lengths, the array's head and the kind: one byte up to 127


def asked_to_answer_early() -> int | None:
    """Look at the next frame without reading it; return its call's id if it is to be answered early."""
    with socket.socket(fileno=os.dup(0)) as wire:
        start = wire.recv(200, socket.MSG_PEEK)
    return start[ID] if b"answer early and die" in start else None


speak.greet()
while True:
    select.select([0], [], [])
    early = asked_to_answer_early()
    if early is not None:
        os.read(0, 8)
        speak.send(speak.RESULT, early, b"x" * 150_000, [])
        os._exit(1)
    message = speak.call()
    if message[2] == "answer and die":
        speak.answer(message, b"x" * message[3][0])
        select.select([0], [], [])
        os._exit(1)
    speak.answer(message, message[3][0])
