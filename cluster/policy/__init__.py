"""When replicas come and go: pure functions from a frozen snapshot to a frozen decision, and their adapter to Ray
Serve.

Knows nothing of pools' machines, prices or manifests. Imports no Ray.
"""
