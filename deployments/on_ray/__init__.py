"""What we need of Ray Serve beyond its surface: routing, streams of references, what its failures mean, health,
sweeping.

Ray's private calls stand in `ray_internals` alone. Knows nothing of jobs.
"""
