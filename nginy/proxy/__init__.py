"""One client's exchange, from accept to the reason why it ended.

`context` holds the facts of a client, `session` what every session is. `upstream` reaches a backend
or tries the next one, `tcp` is the pump; `handler` is what the sessions of one listener share. Read
them in this order, then `udp/`. Before its session goes to its content, a client passes `phases/`,
one of which may follow `routing/`. Beside them, `reply` answers without a backend, `variables`
knows what $remote_addr is, and `closer` ends the sessions of a backend that went down. `backend/`
and `balancer/` choose the backend; `event/` has sockets and readiness.
"""
