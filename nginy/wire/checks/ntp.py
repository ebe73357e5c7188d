"""The ntp check: one request of a client, and whether the server's clock is set.

A server whose clock is not set still answers, and says so: it fails. So does one that tells its
clients to go away (a kiss-o'-death packet).

Source: RFC 5905 §7.3, §7.4 and §8.

Tested in tests/wire/checks/test_datagrams.py.
"""

from dataclasses import dataclass
from typing import Final

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.shown import shown

PACKET_BYTES: Final = 48  # without extensions, which come behind
VERSION_4_CLIENT: Final = 4 << 3 | 3
MODE: Final = 0x07
SERVER: Final = 4
NOT_SYNCHRONIZED: Final = 3
"""The leap indicator of a clock that is not set."""
MAX_STRATUM: Final = 15


@dataclass(frozen=True, slots=True)
class NtpCheck:
    """Expects a server whose clock is set."""

    name = "ntp"

    def script(self, talk: Talk, target: Target) -> Script[None]:
        """Send a request with a timestamp that nobody can guess, and find it in the answer."""
        ours = target.token(8)
        talk.expected = "an answer to our request"
        yield bytes((VERSION_4_CLIENT,)) + bytes(39) + ours
        while True:
            packet = yield from talk.datagram()
            is_server = len(packet) >= PACKET_BYTES and packet[0] & MODE == SERVER
            if is_server and packet[24:32] == ours:
                break
        stratum = packet[1]
        is_unset = packet[0] >> 6 == NOT_SYNCHRONIZED or stratum > MAX_STRATUM
        if stratum == 0 and any(packet[12:16]):
            code = shown(packet[12:16].rstrip(b"\0"))
            raise CheckFailedError(f"the server sends us away (kiss-o'-death {code})")
        if is_unset or stratum == 0:
            raise CheckFailedError(f"the server's clock is not set (stratum {stratum})")
