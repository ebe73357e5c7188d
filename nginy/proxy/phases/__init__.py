"""What a client passes before its session goes to its content: the phases, in their order.

`phase.py` has their order and is the one to read first; `reading.py` is a phase that waits for
bytes. The rules themselves are pure, and outside: `proxy/access.py`, `proxy/limits.py`, `routing/`.
"""
