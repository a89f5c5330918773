"""The served pipeline in simulated time.

Knows policies and traffic, and nothing of Ray, nodes or money.
"""
