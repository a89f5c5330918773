"""Numbers of clips and of sets of clips: pixels, our flow, our judges' features, two encodes; and a plug for others.

None of them is a quality; beside people's votes they say how far each goes with what people see.
"""
