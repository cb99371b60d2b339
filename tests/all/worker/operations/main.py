"""Operations of a session, called as a session calls them, with results that are known beforehand.
Prints a line for every check and ends at the first that fails. Argument: the directory that has the
worker."""

import os
import sys
import traceback

sys.dont_write_bytecode = True
sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), sys.argv[-1]]

import calling  # noqa: E402, F401
import cameras  # noqa: E402, F401
import outputs  # noqa: E402, F401
import stage  # noqa: E402
import timelines  # noqa: E402, F401

for one in stage.CHECKS:
    name = one.__name__.replace("_", " ")
    try:
        one()
    except BaseException:
        traceback.print_exc()
        print("failed:", name)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    print("well:", name, flush=True)
print("all is well", flush=True)
# The bpy module can crash or hang in an orderly exit.
os._exit(0)
