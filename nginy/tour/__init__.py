"""Stop 0 of the tour: three programs, each of which does what the one before cannot.

    blocking.py    one client at a time
    lossy.py       many clients, by select(); some of their bytes are lost
    buffered.py    many clients, and every byte arrives

They use nothing of nginy and nginy uses nothing of them. Run one with where to listen and where
to connect: python -m nginy.tour.buffered 127.0.0.1:8080 127.0.0.1:9001
"""
