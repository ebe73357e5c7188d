"""What a configured name stands for: addresses that come and go, and the pool that follows them.

`resolver` turns names into addresses without blocking. It looks at `files`, and lets `queries` ask
the name servers and remember their answers (an `exchange` is one query under way, `servers`
remembers how the servers behave); `answers` says what several answers mean together. `watch` asks
again at the TTL, `expand` makes backends of what it finds, and `members` brings a pool's list in
step, with those that have `left` it. The messages themselves are in `nginy.wire`.

Read `members` first: it shows what the rest is for.
"""
