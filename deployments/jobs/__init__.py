"""Pure values and judgements about jobs: requests, plans, remixes, routes through the stages, how soon.

No I/O, no database, no Ray, no HTTP.
"""
