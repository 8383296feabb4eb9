"""Answers with many bytes and dies as its caller says; otherwise it echoes.

"answer and die": after the answer, once a byte of the next frame is there.
"answer early and die": before it has read its own call to the end, so that the rest of it lies unread in the kernel.
"""

import os
import select

import speak

speak.greet()
while True:
    early = speak.look_ahead("answer early and die")
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
