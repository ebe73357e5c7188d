"""One process's life: start, signals, reload, end, and what it owns meanwhile.

`server` is the one to read. It owns the loop and three sets, which it keeps in step with the
configuration: `services` (listeners and their handlers), `pools` (upstreams) and `logs`. `reader`
reads a file again while the loop goes on. The rest deals with other processes: `pidfile` and
`systemd` tell them about this one, `inherited` takes sockets over from them, `upgrade` starts a
successor, and `holder` finds out which process has an address that is in use.

With `workers`, several such processes run side by side. `workers/` has all that this takes; nothing
here imports it.
"""
