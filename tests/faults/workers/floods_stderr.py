"""Writes 500 MB to stderr within each call named "bad", in lines or without an end."""

import os

import speak

speak.greet()
while True:
    message = speak.call()
    if message[2] == "bad":
        for _ in range(500):
            os.write(2, b"x" * 2**20)
        os.write(2, b"\n" + b"y\n" * 2**10)
    speak.answer(message, (message[3] or [None])[0])
