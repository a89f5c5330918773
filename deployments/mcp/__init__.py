"""Tools for assistants over the Model Context Protocol: a client of the HTTP API, wherever that runs.

Knows nothing of jobs, stages or Ray.
"""
