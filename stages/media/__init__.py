"""Opens what people send or train on, pictures and videos, and shows it as it is meant to be seen.

    types.py     what a file is, what it may be, what is wrong with it
    pictures.py  pictures and animations, by Pillow
    videos.py    videos, by FFmpeg
    filters.py   a decoded frame to upright RGB, by FFmpeg's filters
    times.py     which frame is shown at a moment, and at which rate
    fitting.py   a plan for as many frames as the file has
    entering.py  the file in the place of the stages before the one that it enters
    sound.py     the sound of a file beside the frames that were made of it

Every frame is upright, of square pixels, BT.709 or sRGB, progressive, 8 bit, on white where it is transparent; frames
come one by one, so that memory holds a few. Formats are told from the bytes; a finding is a `MediaError`, whose words
go behind the file's name. Knows nothing of models, servers or manifests.
"""
