"""What is computed: the four models, their presets, their training and the tiny weights.

Knows nothing of Ray or HTTP.
"""
