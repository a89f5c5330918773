"""What the pools have and what the stages need of them: files, arguments, nodes, and what is lacking.

The one room of `cluster/` that asks Ray. Knows nothing of load.
"""
