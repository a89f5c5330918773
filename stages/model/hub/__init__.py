"""Any pipeline of diffusers behind a stage: found, judged and loaded (`layout`), its limits (`limits`), run (`runner`).

`video` makes the I2V and V2V stages of them; `stages.t2i` uses the same parts for pictures. Knows nothing of presets
beyond the parts they name, and nothing of Ray.
"""
