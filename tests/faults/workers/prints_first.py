"""Prints a line on stdout before it speaks the protocol."""

import speak

speak.receive()
speak.write(b"Loading model...\n" + speak.frame(*speak.ready()))  # at once, as they may well arrive
speak.echo_forever()
