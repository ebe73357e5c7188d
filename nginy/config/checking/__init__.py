"""Checking: mistakes that span keys, and warnings about probable ones.

`check.py` has the rules that span keys, and calls the others, a subject each. `surprises.py` warns.
Not here: whether one value is valid, which its kind decides (`config/types.py` and the keys'
modules).
"""
