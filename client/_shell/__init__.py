"""What every command of this repository shares: files written whole, texts read, a clean terminal, how it ends.

Imports nothing but the standard library and, for tables, rich; so the stages, the server and the planner use it too.
"""
