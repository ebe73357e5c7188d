"""What a configured name stands for: addresses that come and go, and the pool that follows them.

`resolver` turns names into addresses without blocking, with a memory; `exchange` is one question to
the name servers, on UDP and TCP. `watch` asks again at the TTL, and `members` brings a pool's list
of backends in step with the answers. The messages themselves are in `nginy.wire`.

Read `members` first: it shows what the rest is for.
"""
