"""Who can serve: the backends of each upstream, their counters and their health.

What a backend is and how a pool picks one is in `backend` and `pool`, who waits when all are busy
in `waiting`, and what several workers count together in `shared`. Three rooms stand beside them:

- `health/` decides. What is known about a backend, and what follows from a result: pure, without a
  socket, a clock or a log.
- `checks/` asks. Timers, sockets and programs that bring results to `health/`, and the monitor that
  turns its decisions into the numbers that balancing reads.
- `names/` keeps the list. What a configured name stands for, and who belongs to a pool.

What a session does with a backend is in `nginy.proxy`; the arithmetic of choosing is in
`nginy.balancer`; the bytes of checks and name servers are in `nginy.wire`.

The one idea: causes that may take a backend out (an operator, a check, an agent, the resolver,
failures of sessions) never overwrite each other. Each has a word of its own, and the worst word
counts. See README.md beside this file for the diagram.
"""
