"""One client's exchange, from accept to the reason why it ended.

`context` holds the facts of a client, `session` what every session is, `upstream` how a backend is
reached and the next one tried, `tcp` the pump, `udp` the session table of the connectionless and
`udp_session` one of its sessions; `handler` is what the sessions of one listener share. Read them
in this order. Beside them, `reply` answers without a backend, `variables` knows what $remote_addr
is, and `closer` ends the sessions of a backend that went down. Which backend is chosen is decided
in `backend/` and `balancer/`; how sockets and readiness work is in `event/`.
"""
