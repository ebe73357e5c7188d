"""What asks: the checks of a backend, on timers and sockets of the loop.

`watch` has the one timer of a backend, `checker` makes its checks, as a `dialog` on a connection, a
datagram, or a `program`; `agent` asks how much a backend can take. `monitor` turns what all of them
find out into the three numbers that balancing reads. What a result means is decided in `health/`,
and what the bytes say in `nginy.wire`.

Read `watch` first, then `checker`.
"""
