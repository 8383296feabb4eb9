"""Takes Hello and never answers."""

import time

import speak

speak.receive()
time.sleep(60)
