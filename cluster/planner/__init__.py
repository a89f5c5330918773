"""From a profile and a goal to the cheapest replicas, by formulas and an exact search.

Knows nothing of time as it passes: that is the twin's.
"""
