"""Hosts any stage in a Serve replica: turns on the device, batches, warm-up.

Knows nothing of jobs, the journal or the other stages.
"""
