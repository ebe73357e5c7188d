"""The sip check: OPTIONS over UDP, and the status of the answer.

An answer belongs to our request if it has our Call-ID; the check passes over others, and over
provisional ones (1xx).

Source: RFC 3261 §8.1.1, §11 and §7.2; RFC 3581 for rport.

Tested in tests/wire/checks/test_datagrams.py.
"""

import re
from dataclasses import dataclass
from typing import Final

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.http import format_statuses

STATUS_LINE: Final = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2}) [^\r\n]*\r\n")
HOST: Final = re.compile(r"[A-Za-z0-9.-]+")
PROVISIONAL_MAX: Final = 199
MAX_HEAD_BYTES: Final = 8192
"""How far the Call-ID is looked for; an answer to OPTIONS has some 500 bytes."""


@dataclass(frozen=True, slots=True)
class SipCheck:
    """Expects one of `statuses`."""

    statuses: frozenset[int] = frozenset(range(200, 400))
    name = "sip"

    def script(self, talk: Talk, target: Target) -> Script[None]:
        """Ask, and wait for the final answer to this very request."""
        host = target.hostname if HOST.fullmatch(target.hostname) else "localhost"
        call = f"{target.token(12).hex()}@{host}"
        expected = format_statuses(self.statuses)
        talk.expected = f"status {expected}"
        yield _request(target, host, call)
        call_id = re.compile(rb"\n(?:call-id|i)[ \t]*:[ \t]*%s[ \t]*\r?\n" % call.encode(), re.I)
        while True:
            answer = yield from talk.datagram()
            match = STATUS_LINE.match(answer)
            if match is None or call_id.search(answer, 0, MAX_HEAD_BYTES) is None:
                continue
            status = int(match[1])
            if status in self.statuses:
                return
            if status > PROVISIONAL_MAX:
                raise CheckFailedError(f"status {status} came, {expected} was expected")


def _request(target: Target, host: str, call: str) -> bytes:
    """Return a request that leaves the server nothing to keep."""
    server = f"sip:{target.address.host_text}:{target.address.port}"
    token = target.token(6).hex()
    lines = (
        f"OPTIONS {server} SIP/2.0",
        f"Via: SIP/2.0/UDP {host};branch=z9hG4bK{token};rport",
        "Max-Forwards: 70",
        f"From: <sip:nginy@{host}>;tag={token}",
        f"To: <{server}>",
        f"Call-ID: {call}",
        "CSeq: 1 OPTIONS",
        "Accept: application/sdp",
        "User-Agent: nginy",
        "Content-Length: 0",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")
