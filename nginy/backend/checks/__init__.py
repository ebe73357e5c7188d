"""What asks: the checks of a backend, on timers and sockets of the loop.

`watch` has the one timer of a backend. `checker` makes its checks, as a `dialog` on a connection, a
datagram, or a `program`; `agent` asks how much a backend can take. `monitor` turns their findings
into the three numbers that balancing reads, and `relay` passes them on to other workers. `health/`
decides what a result means, and `nginy.wire` what the bytes say.

Read `watch` first, then `checker`.
"""
