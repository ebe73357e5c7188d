"""Who can serve: the backends of each upstream, their counters and their health.

`backend` is one server, `pool` a group that picks one, `waiting` the queue of clients when all are
busy, and `shared` the counts that several workers have in common. Beside them are three rooms:

- `health/` decides what is known about a backend and what follows from a result. It is pure: no
  socket, no clock, no log.
- `checks/` asks. Its timers, sockets and programs bring results to `health/`, and its monitor turns
  the decisions into the numbers that balancing reads.
- `names/` keeps the list: what a configured name stands for, and which backends belong to a pool.

`nginy.proxy` has the sessions, `nginy.balancer` the arithmetic of choosing, `nginy.wire` the bytes
of checks and name servers.

The one idea: the causes that may take a backend out (an operator, a check, an agent, its name,
failures of sessions) never overwrite each other. Each has a word of its own, and the worst word
counts. README.md beside this file has the diagram.
"""
