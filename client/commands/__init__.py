"""The commands of `magicvideo`, one module a theme; `cli.py` puts them together."""
