"""Experiments: a YAML file becomes runs, simulated or live, and their files and plots.

The one room of `cluster/` that calls a server, through the client's public face, as any caller does.
"""
