"""The languages of health checks, one module each: what to say, and what the answers mean.

`talk` is the frame: a check is a generator that yields bytes to send and takes bytes from a `Talk`.
`steps` has the checks whose words stand in the configuration, `http` and the others speak one
protocol each. Nothing here has a socket or a clock; `backend/checks/dialog.py` carries the words
over streams and `backend/checks/datagram.py` over UDP.

Read `talk` first, then `redis`.
"""
