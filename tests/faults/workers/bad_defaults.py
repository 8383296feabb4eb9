"""Offers a command whose own timeout, or cancel_grace, is no time: its arguments say which."""

import os
import sys

import speak

speak.receive()
times = {"timeout": None, "cancel_grace": None, sys.argv[1]: float(sys.argv[2])}
echo = ["echo", "m", "echo", times["timeout"], 0, "plain", True, times["cancel_grace"]]
speak.send(speak.READY, 1, os.getpid(), "bad", [echo], 1)
speak.echo_forever()
