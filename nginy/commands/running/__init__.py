"""Commands that ask a running nginy through its admin interface, or change it.

`interface.py` finds where to ask, and `asking.py` makes one request; the others are a command each.
"""
