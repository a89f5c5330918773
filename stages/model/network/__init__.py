"""The networks: the video UNet and its layers, ControlNets, appearance encoder, text, VAE; their fast paths and memory.

Knows nothing of steps, schedules or windows.
"""
