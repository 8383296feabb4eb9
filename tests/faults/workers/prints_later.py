"""Prints a line on stdout before an answer."""

import speak

speak.greet()
while True:
    message = speak.call()
    if message[2] == "bad":
        speak.write(b"purring now\n")
    speak.answer(message, (message[3] or [None])[0])
