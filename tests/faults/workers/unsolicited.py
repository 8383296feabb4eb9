"""Says something while it is idle, once it is asked to."""

import select
import time

import speak

speak.greet()
while True:
    message = speak.call()
    speak.answer(message, (message[3] or [None])[0])
    if message[2] == "bad" and not select.select([0], [], [], 0.05)[0]:
        speak.send(speak.RESULT, message[1], "again", [])
        time.sleep(60)
