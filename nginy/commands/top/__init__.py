"""`nginy top`: what a running nginy does, in a terminal, each second anew.

What is shown is a pure function of a snapshot (`screen.py`, `tables.py`), and what a key does is
one of the state before it (`state.py`). Around them are one module that asks (`feed.py`) and one
with curses (`front.py`).
"""
