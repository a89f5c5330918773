"""The tiny weights from nothing: vocabulary, autoencoder, T2I, video, judges and their measurement.

Knows nothing of public weights.
"""
