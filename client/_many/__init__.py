"""Many requests: a resumable batch over a file of prompts, and an open loop of load.

Knows nothing of the command line that shows their progress.
"""
