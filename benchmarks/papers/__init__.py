"""Published tables of mixed video traffic, and what our order of calls makes of them: `python -m benchmarks.papers`."""
