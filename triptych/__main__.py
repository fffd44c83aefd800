"""The `triptych` command, also as `python -m triptych`.

Ctrl-C while it is being imported, before anything has begun, or after everything is written, ends it without a word.
"""

import os
import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from triptych.cli import main as run  # what can be interrupted comes after

if __name__ == "__main__":
    sys.exit(run())
