"""The laboratory itself: whether its plans are the cheapest and its simulator is fast: `python -m benchmarks.lab`."""
