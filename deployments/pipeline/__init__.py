"""Drives jobs through the stages: claims, calls, retries, windows, progress, what to keep and what to take over.

Holds references, never pixels; knows nothing of HTTP or of how a stage is hosted.
"""
