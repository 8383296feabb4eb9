"""Sends half of its answer, and ends."""

import os

import speak

speak.greet()
while True:
    message = speak.call()
    if message[2] == "bad":
        speak.write(speak.frame(speak.RESULT, message[1], "x" * 100, [])[:50])
        os._exit(0)
    speak.answer(message, (message[3] or [None])[0])
