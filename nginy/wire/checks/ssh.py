"""The ssh check: the server's identification.

OpenSSH 9.8 and later count each client without a login as one second of a penalty, and refuse it
for a while at 15: so an interval above one second is fine (sshd_config, PerSourcePenalties).

The server speaks first; lines ahead of its identification do not count. The goodbye is our
identification and SSH_MSG_DISCONNECT, since OpenSSH logs an error for a client that just leaves.

Source: RFC 4253 §4.2, §6 and §11.1.

Tested in tests/wire/checks/test_protocols.py.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.shown import shown

IDENTIFICATION: Final = re.compile(rb"SSH-(2\.0|1\.99)-")
SSH_MSG_DISCONNECT: Final = 1
SSH_DISCONNECT_BY_APPLICATION: Final = 11
BLOCK_BYTES: Final = 8
"""A packet without a cipher is a multiple of these (RFC 4253 §6)."""


@dataclass(frozen=True, slots=True)
class SshCheck:
    """Expects version 2, or 1.99, which stands for both."""

    name = "ssh"

    def script(self, talk: Talk, _target: Target) -> Script[None]:
        """Read lines up to the identification."""
        talk.expected = '"SSH-2.0-"'
        line = first = yield from talk.line()
        while not line.startswith(b"SSH-"):
            talk.expected = f'"SSH-2.0-" after {shown(first)}'
            line = yield from talk.line()
        if not IDENTIFICATION.match(line):
            raise CheckFailedError(f'{shown(line)} came, "SSH-2.0-" was expected')
        talk.goodbye = b"SSH-2.0-nginy\r\n" + _disconnect()


def _disconnect() -> bytes:
    """Return the packet that ends a connection."""
    text = b"health check"
    payload = struct.pack(">BIII", SSH_MSG_DISCONNECT, SSH_DISCONNECT_BY_APPLICATION, 0, 0)
    payload = payload[:5] + struct.pack(">I", len(text)) + text + struct.pack(">I", 0)
    padding = BLOCK_BYTES - (len(payload) + 5) % BLOCK_BYTES
    if padding < 4:
        padding += BLOCK_BYTES
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)
