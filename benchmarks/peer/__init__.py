"""Other systems on the same stages: plain Ray Serve, Ray Data, Cosmos-Xenna, monoliths.

Each runs in an environment of its own where it must; none knows of MagicVideo's application.
"""
