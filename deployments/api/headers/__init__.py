"""What headers say whatever the route: hardening, pages of other sites (CORS), types (Accept), parts (Range).

Knows nothing of jobs.
"""
