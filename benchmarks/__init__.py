"""One runnable script a claim: `python -m benchmarks.<name>`; each prints what it measured, then one RESULT line."""
