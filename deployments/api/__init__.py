"""HTTP and nothing else: routes, bodies, parameters, answers, who is let in, the page.

The only room with FastAPI. Never holds frames, never computes, never calls a stage.
"""
