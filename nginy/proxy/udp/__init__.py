"""UDP: sessions of clients that have no connection, found in a table by the client's address.

`handler.py` has the table and `session.py` one session; read them first. The others are parts of
them (`base`, `opening`, `moving`, `run`), sessions with something more (`pacing`, `announcing`),
and what happens before there is a session (`header`, `stranger`). Sockets are in
`event/datagram.py`.
"""
