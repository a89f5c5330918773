"""From a part's name to a module on a device: files, published layouts, loading, conversion, offloading, LoRA.

Knows nothing of what the modules are for.
"""
