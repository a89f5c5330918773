"""Steps, averages, resume, precision, processes, log: what every recipe runs in.

Knows nothing of what is learnt.
"""
