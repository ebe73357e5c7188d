"""Checking: what no single key can know, and what loads but is probably a mistake.

`check.py` has the rules that span keys, and calls the others, a subject each. `surprises.py` warns.
Not here: whether one value is right, which its kind knows (`config/types.py` and the keys'
modules).
"""
