"""`nginy top`: shows what a running nginy does, in a terminal, updated every second.

The screen is a pure function of a snapshot (`screen.py`, `tables.py`), and the next state is a pure
function of the state and a key (`state.py`). Around them are one module that asks (`feed.py`) and
one with curses (`front.py`).
"""
