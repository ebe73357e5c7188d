"""Sockets, readiness and time: the event core, which knows nothing of balancing.

Read the modules in this order: `event`, `buffer` and the fields of `connection` (the data),
`clock` and `timer` (time), `selector` and `loop` (one turn of it all), then the methods of
`connection`, and `listener`. What else is here can wait: `datagram` (UDP sockets as connections),
`tls` and `records` (behind the same recv and send), `pipe` (bytes that stay in the kernel) and
`signals`. Sessions, backends and configuration live above, in the other packages; nothing here
imports them.
"""
