"""When replicas come and go, and which call is next: pure functions from a frozen snapshot to a frozen decision, and
the adapter of the former to Ray Serve.

Knows nothing of pools' machines, prices or manifests. Imports no Ray.
"""
