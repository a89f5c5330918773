"""The interpolation GAN: records of frames, losses, recipe.

Knows nothing of diffusion.
"""
