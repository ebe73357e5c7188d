"""Several workers, the parent that starts them, and what the two say to each other.

`supervisor` binds, forks and ends; `crew` is the workers as the supervisor sees them, `vote` makes
them reload, and `ports` has the listening sockets that it keeps for them. A `worker` is a server
whose supervisor tells it over a `channel` what to serve. No client's byte passes through the
supervisor.

nginx: `ngx_process_cycle.c`, `ngx_channel.c`.
"""
