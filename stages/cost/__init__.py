"""What a stage's call costs, counted from configurations alone: FLOPs, weights, peak of activations, bytes of output.

    command.py   `python -m stages cost`: the table
    stages.py    the passes of every stage's call
    denoising.py what I2V and V2V compute at every step, and once a request
    sketch.py    a stage's networks without weights, on the meta device
    gpus.py      which cards they fit on, and about how long they take there
    meter.py     counts FLOPs and live bytes while a pass runs

Knows nothing of seconds: those are measured.
"""
