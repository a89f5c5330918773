"""All SQL of jobs: `journal` for who asks, `leases` for who executes.

Knows nothing of Ray, HTTP or stages' values. Tenants' keys are kept elsewhere, in the same database.
"""
