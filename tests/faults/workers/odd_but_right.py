"""Uses all that the protocol leaves open: skippable messages, longer arrays, logs, updates that nobody asked for."""

import os

import speak

speak.receive()
speak.send(64, "may be skipped")
command = ["echo", "m", "echo", None, 0, "plain", False, None, None, "appended"]
speak.send(speak.READY, 1, os.getpid(), "odd", [command], 7, 0, False, "appended", {})
while True:
    message = speak.call()
    speak.send(37, {"level": "INFO"})
    speak.send(35, message[1], "an update", [])
    speak.send(200, message[1])
    os.write(2, b"free text\n")
    speak.send(speak.RESULT, message[1], (message[3] or [None])[0], [], "appended")
