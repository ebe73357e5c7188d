"""The phases: what a client passes, in order, before its session goes to its content.

`phase.py` has their order and is the one to read first; `reading.py` is a phase that waits for
bytes. The rules themselves are pure, and outside: `proxy/access.py`, `proxy/limits.py`, `routing/`.
"""
