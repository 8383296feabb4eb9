"""Says that it chose version 2 of the protocol."""

import time

import speak

speak.receive()
speak.send(*speak.ready(version=2))
time.sleep(60)
