"""What operators change while nginy runs, and the book that keeps it.

`book.py` says which changes hold, and when the file wins over them. `changing.py` is the one to
read next: it checks a request for a change, enters it and sends it to all who serve.
"""
