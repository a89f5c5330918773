"""Which video pipelines of diffusers run behind a stage: `python -m benchmarks.adapters`."""
