"""Human feedback on the base UNet: ReFL, DPO, rewards, and which layers learn.

Knows nothing of clips.
"""
