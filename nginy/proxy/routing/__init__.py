"""Routing: which way a client of a listener takes, if there are several.

`routes.py` is the pure table and is the one to read first; `conditions.py` and `patterns.py` are
what it asks. `routed.py` is the listener whose clients follow it.
"""
