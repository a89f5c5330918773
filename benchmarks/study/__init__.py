"""`python -m benchmarks.study`: what a study says is true, and no vote is lost."""
