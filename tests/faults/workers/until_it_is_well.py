"""Is the worker that its second argument names, until the file of its first is there: then it echoes."""

import os
import runpy
import sys

import speak

flag, bad = sys.argv[1:3]
if os.path.exists(flag):
    speak.greet()
    speak.echo_forever()
runpy.run_path(bad, run_name="__main__")
