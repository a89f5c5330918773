"""What holds for all tests: one torch thread a process, since two on a loaded two-core machine spin in turn."""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read by torch at import, here and in every process that a test starts
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test downloads a model
