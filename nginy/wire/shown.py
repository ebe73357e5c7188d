r"""Bytes that a peer has sent, as a message shows them.

"The answer is not as expected" helps nobody who cannot see the answer. `shown` returns its head in
quotes, safe for one line of a log, and names a common mistake: TLS in place of plain text.
`backend/checks/` decides which message it goes into.

The one idea: 64 bytes are enough to recognize a protocol, and too few to leak much of what it says.
"""

import re
from typing import Final

SHOWN_MAX_BYTES: Final = 64

SHORT: Final = {
    ord("\r"): r"\r",
    ord("\n"): r"\n",
    ord("\t"): r"\t",
    ord('"'): r"\"",
    ord("\\"): r"\\",
}
ESCAPED: Final = tuple(
    SHORT.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}")
    for byte in range(256)
)

TLS_RECORD: Final = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]")
"""How a record begins: change_cipher_spec to application_data, version 3.x (RFC 8446 §5.1)."""


def shown(data: bytes | bytearray) -> str:
    r"""Return the first 64 bytes as text: `"220 mail\r\n"`; "nothing" if there are none."""
    if not data:
        return "nothing"
    head = "".join([ESCAPED[byte] for byte in data[:SHOWN_MAX_BYTES]])
    more = "..." if len(data) > SHOWN_MAX_BYTES else ""
    hint = " (looks like TLS)" if TLS_RECORD.match(data) else ""
    return f'"{head}"{more}{hint}'


def what_came(received: bytes | bytearray, expected: str) -> str:
    """Return the clause on an answer that will not do: `"no" came, "+PONG" was expected`."""
    text = f"{shown(received)} came"
    return f"{text}, {expected} was expected" if expected else text
