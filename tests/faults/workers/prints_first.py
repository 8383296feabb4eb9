"""Prints a line on stdout before it speaks the protocol."""

import speak

speak.write(b"Loading model...\n")
speak.greet()
speak.echo_forever()
