"""What the knobs of a stage's `Speed` cost and gain. Knows nothing of servers."""
