"""The plain hash of a key: the same key, the same peer, while the list of peers stays as it is.

The weights lie end to end, and the hash modulo their sum points at one of them. A change of the
list moves most keys; `ring`, `maglev` and `rendezvous` move few. `proxy` works out which bytes make
the key.

A peer that is not usable keeps its share of the hashes. Only its own keys are hashed again, with
the number of the attempt before the key, so no other key moves. The choice is nginx's to the last
bit, because users migrate with warm caches.

Source: nginx ngx_stream_upstream_hash_module.c ngx_stream_upstream_get_hash_peer.
Read first `round_robin`; read next `ring`.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from zlib import crc32

from nginy.balancer.peer import P, is_usable, open_window
from nginy.balancer.round_robin import MAX_MISSES, RoundRobin, pick_smooth


class Hash(RoundRobin[P]):
    """The peer whose part of the total weight the key's hash falls into."""

    __slots__ = ("_ends",)

    def _sort(self, peers: Sequence[P]) -> None:
        """Sort nothing: this method takes turns only where it finds no peer by itself."""

    def rebuild_steps(self, peers: Sequence[P]) -> Iterator[None]:
        """Add up the weights, at once."""
        self._ends = list(accumulate(peer.weight for peer in peers))
        return super().rebuild_steps(peers)

    def pick(self, key: bytes, tried: Collection[P], now_s: int) -> P | None:
        """Walk from hash to hash to a usable peer. O(log peers) unless it falls back."""
        peers = self._peers
        if not key or len(peers) < 2:
            return pick_smooth(peers, tried, now_s)
        ends = self._ends
        # A retry walks from the start again. nginx goes on from the session's last pick, which
        # costs no miss, so the first meeting with each tried peer costs none here either.
        unmet = list(tried)
        misses = rehash = hash_sum = 0
        while misses <= MAX_MISSES:
            prefix = b"%d" % rehash if rehash else b""
            hash_sum += (crc32(prefix + key) >> 16) & 0x7FFF
            rehash += 1
            peer = peers[bisect_right(ends, hash_sum % ends[-1])]
            if peer in unmet:
                unmet.remove(peer)
            elif peer in tried or not is_usable(peer, now_s):
                misses += 1
            else:
                open_window(peer, now_s)
                return peer
        return pick_smooth(peers, tried, now_s)
