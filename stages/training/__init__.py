"""Training: the tiny weights from nothing, and the parts of any preset on a user's own data, by the same code.

    __main__.py arguments.py commands.py                       the command; README.md tells all of it
    loop.py journal.py team.py                                 how: steps, log, processes
    trainee.py recipe_video.py fresh.py noising.py             the video network
    spatial.py recipe_refl.py rewards.py recipe_dpo.py lora.py human feedback
    manifest.py footage.py sources.py batches.py grids.py      a user's data, and samples to look at
    tiny.py recipe_vae.py recipe_t2i.py tiny_video.py          the tiny weights, in order; networks.py, tokens.py
    data.py captions.py backgrounds.py fetch.py latents.py     what they are learnt from
    recipe_vfi.py vfi_*.py                                     the interpolation GAN
    measure.py                                                 how good the tiny result is

Nothing here is imported when a video is made.
"""
