"""The application's typed arguments, reading them from file and environment, and the laptop's and the rehearsal's
variants.

Starts nothing.
"""
