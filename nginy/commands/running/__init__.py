"""What asks a running nginy, by its admin interface: how it is, what it does, and changes to it.

`interface.py` finds where to ask, and `asking.py` makes one request; the others are a command each.
"""
