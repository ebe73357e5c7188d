"""A new program takes over the sessions of the one that runs, while they go on.

USR2 starts the program again, perhaps a newer version of it or on a newer Python. The new process
gets copies of the listening sockets, learns what the old one knows, and serves. Then the old one
hands over its sessions, one by one, and ends. No session lives in both of them at any time:

    the old process                                   the new process
    upgrade.py    USR2: start it, watch it      <-->  predecessor.py   greet, say when it serves
    giving.py     know, stop, send, forget      <-->  taking.py        learn, take up, confirm

`messages.py` describes what they say to each other; `link.py` carries it. `session_record.py` is a
moving session as plain values; `tcp_session.py` turns a session into such a record, and a record
into a session.

Neither nginx nor HAProxy can do this: both leave old processes behind until their last session has
ended.
"""
