"""Parts that two or more stages share: from loading and text to the denoising loop and its windows.

Torch and diffusers live here and in the stages; nothing here knows of Ray, of HTTP, or which stage calls it.
"""
