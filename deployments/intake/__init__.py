"""Whether a job may come in, and what it begins from: admission, uploads, prompts, acceptance.

Knows nothing of a `Request`: it takes plain values and raises what the API says.
"""
