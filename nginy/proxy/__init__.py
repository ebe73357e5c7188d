"""One client's exchange, from accept to the reason why it ended.

`context` holds the facts of a client, `session` what every session is. `upstream` reaches a backend
or tries the next one, `tcp` is the pump. `udp` has the table of UDP sessions and `udp_session` is
one of them; `handler` is what the sessions of one listener share. Read them in this order. Beside
them, `reply` answers without a backend, `variables` knows what $remote_addr is, and `closer` ends
the sessions of a backend that went down. `backend/` and `balancer/` choose the backend; `event/`
has sockets and readiness.
"""
