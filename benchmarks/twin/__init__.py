"""How well the simulator predicts a live run, of nodes, yields and a drain too: `python -m benchmarks.twin`."""
