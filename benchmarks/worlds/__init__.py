"""The made-up worlds that sets of weights were trained on, as a measurement needs them.

A vocabulary says of which world its set is (`stages.words.Vocabulary.world`). A `World` deals held-out scenes, writes
their prompts, draws real clips of them over backgrounds that nothing was trained on, and judges clips. Knows nothing of
how a clip was made.
"""
