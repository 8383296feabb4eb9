"""At a call it leaves a process behind that is out of its group and writes frames to the wire without end; dies."""

import os
import time

import speak

speak.greet()
message = speak.call()
if os.fork() == 0:
    os.setsid()
    while True:
        speak.write(speak.frame(37, {}) * 1000)  # log records, which the pool ignores
time.sleep(0.2)
os._exit(1)
