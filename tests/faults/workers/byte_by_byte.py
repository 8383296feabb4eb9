"""Sends all that it sends one byte at a time; otherwise it is as good as any."""

import os

import speak


def write(data: bytes) -> None:
    for byte in data:
        os.write(1, bytes([byte]))


speak.write = write
speak.greet()
speak.echo_forever()
