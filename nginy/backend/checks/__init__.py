"""Asking: the checks of a backend, on timers and sockets of the loop.

`watch` has the one timer of a backend. `checker` makes its checks, as a `dialog` on a connection, a
`datagram`, or a `program`; `open_checks` limits how many are open at once, and `sharing` lets one
check serve several backends. `agent` asks how much a backend can take. `monitor` hears what they
find: `effect` turns it into the numbers that balancing reads, and `relay` passes it on to other
workers. `settings` says what an upstream's configuration asks for. `health/` decides what a result
means, and `nginy.wire` what the bytes say.

Read `watch` first, then `checker`.
"""
