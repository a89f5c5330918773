"""How the tiny weights are made: data, captions, one recipe a model, and a loop that goes on where it stopped.

    fetch.py backgrounds.py captions.py data.py    what is learnt from
    networks.py tokens.py                          what learns
    noising.py latents.py loop.py                  how
    recipe_vae.py recipe_t2i.py recipe_video.py    in which order; `python -m stages.training` runs them
    measure.py                                     how good the result is

Nothing here is imported when a video is made.
"""
