"""Stop 0 of the tour: small programs; each does what the one before cannot.

    blocking.py    one client at a time
    lossy.py       many clients, by select(); some of their bytes are lost
    buffered.py    many clients, and every byte arrives
    evented.py     the same with a loop that calls handlers: epoll's edges, timers
    forgetful.py   the trap of the edges, by leaving out one line of evented.py

They use nothing of nginy, and nginy uses nothing of them. Run one with the address to listen on
and the address to connect to: python -m nginy.tour.buffered 127.0.0.1:8080 127.0.0.1:9001

Pages of the tour stand beside them: states.md (of an event, and of a session), one_byte.md and
one_datagram.md (what happens to each on its way through nginy), and exercises.md.
"""
