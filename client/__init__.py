"""The Python client of MagicVideo-V2 on Ray."""
