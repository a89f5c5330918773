"""The next default weights, of every animated emoji: autoencoder, text encoder and pictures, clips.

No preset has them yet; once they are complete they take the place of `training/tiny`'s recipes.
"""
