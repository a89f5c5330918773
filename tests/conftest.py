"""What holds for all tests: one torch thread a process, since two on a loaded machine spin in turn; and Ctrl-C.

A shell starts what it puts in the background with SIGINT ignored, and children inherit that; tests that send a child
SIGINT would then wait for ever.
"""

import os
import signal

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read by torch at import, here and in every process that a test starts
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test downloads a model
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
