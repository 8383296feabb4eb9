"""Offers a command whose own timeout is no time: its argument says which."""

import os
import sys

import speak

speak.receive()
speak.send(speak.READY, 1, os.getpid(), "bad", [["echo", "m", "echo", float(sys.argv[1])]], 1)
speak.echo_forever()
