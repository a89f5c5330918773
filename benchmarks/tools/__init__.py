"""What several claims share: loads, live servers, faults, bounds, footage, measures, and the last line of a run."""
