"""The two clients: requests, retries, polling, downloads, events and streams, written once for sync and async.

Knows nothing of files of prompts, load, or the command line.
"""
