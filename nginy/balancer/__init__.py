"""The balancing algorithms: which backend serves the next session, and nothing else.

All of it is pure. An algorithm sees its backends through `peer.Peer`, takes the time and the random
source as arguments, and answers with a peer or None. It opens no socket, reads no clock, logs
nothing and counts no session. `backend.pool` counts them, and keeps one balancer for the primaries
and one for the backups; `proxy` owns retries.

- `peer` what an algorithm may see of a backend, the contract of a balancer, passive failures
- `round_robin` nginx's smooth weighted round robin, the fallback of every other method
- `least` fewest connections, least time
- `turns`, on `accounts`: the choices of those two among many peers, in sorted lists
- `pick_random` at random, and the better of two
- `hashing` nginx's plain hash of a key
- `ring`, on `points`: nginx's consistent hash (ketama), and the same with bounded loads
- `maglev`, `rendezvous` consistent methods that need no order of the list to agree between nodes

Read first `peer`, then `round_robin`.
"""
