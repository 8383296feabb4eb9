"""Answers with many bytes, and dies once a byte of the next frame is there; otherwise it echoes."""

import os
import select

import speak

speak.greet()
while True:
    message = speak.call()
    if message[2] == "answer and die":
        speak.answer(message, b"x" * message[3][0])
        select.select([0], [], [])
        os._exit(1)
    speak.answer(message, message[3][0])
