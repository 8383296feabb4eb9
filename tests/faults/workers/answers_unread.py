"""Answers a call named "answer unread" with 64 MiB before it reads a byte of it; otherwise it echoes."""

import speak

speak.greet()
while True:
    unread = speak.look_ahead("answer unread")
    if unread is not None:
        speak.send(speak.RESULT, unread, b"x" * (64 * 2**20), [])
        speak.receive()
        continue
    message = speak.call()
    speak.answer(message, (message[3] or [None])[0])
