"""From a profile and a goal to the cheapest replicas, by formulas and an exact search, then held to the twin.

What passes while jobs run is the twin's.
"""
