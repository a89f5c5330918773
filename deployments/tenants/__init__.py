"""API keys, the operator's commands, and the webhooks that a tenant's jobs send.

Knows nothing of HTTP requests that come in.
"""
