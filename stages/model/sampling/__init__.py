"""The denoising loop: schedulers, the noise prior, windows, and clips as batches of frames.

Knows nothing of where weights come from.
"""
