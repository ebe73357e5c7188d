r"""Checks in the operator's own words: `send` and `expect` once, or `steps`, several times.

Each step sends a text, then reads until the answer meets its expectation; a step without one goes
on at once. What a step sends may name $address, $port and $hostname; \x24 is a dollar sign. The
reasons of a step begin with its label; those of a step without a label begin with its number, if
there are several steps.

The one idea: an answer ends where the next step sends. Bytes that have come by then and match
nothing belong to the answer before, as with HAProxy's `tcp-check`. Steps that only expect read on
after the match of the step before.

Source: nginx Plus, `match` (ngx_stream_upstream_hc_module); HAProxy configuration manual,
`tcp-check send` and `tcp-check expect`.
"""

import re
from dataclasses import dataclass
from typing import Final

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.errors import WireError
from nginy.wire.expect import Expect, Verdict, unescape

VARIABLE: Final = re.compile(r"\$([A-Za-z0-9_]*)")
VARIABLES: Final = ("address", "port", "hostname")


@dataclass(frozen=True, slots=True)
class CheckStep:
    """One send and one expectation, either of which may be missing.

    `send` is a template of `parse_template` if `has_variables` is set, else the bytes themselves.
    """

    send: bytes = b""
    expect: Expect | None = None
    timeout_ms: int | None = None
    label: str = ""
    has_variables: bool = False


@dataclass(frozen=True, slots=True)
class StepsCheck:
    """Goes through its steps; it passes if all of them do. Without steps, connecting is enough."""

    steps: tuple[CheckStep, ...] = ()
    name = ""

    def script(self, talk: Talk, target: Target) -> Script[None]:
        """Send and expect in turn; UDP sends a datagram even if it is empty."""
        for number, step in enumerate(self.steps, 1):
            talk.stage = self._stage(number, step)
            talk.timeout_ms = step.timeout_ms
            yield from _go(step, talk, target)
        if talk.is_datagram and (not self.steps or self.steps[-1].expect is None):
            if not self.steps:
                yield b""
            talk.is_silence_fine = True
            talk.expected = ""
            yield from talk.datagram()

    def _stage(self, number: int, step: CheckStep) -> str:
        """Return what a reason begins with; nothing if the check has one step without a label."""
        if step.label:
            return f'step "{step.label}"'
        return f"step {number}" if len(self.steps) > 1 else ""


def single(send: bytes = b"", expect: Expect | None = None) -> StepsCheck:
    """Return the check of the keys `send` and `expect`."""
    return StepsCheck((CheckStep(send, expect),) if send or expect is not None else ())


def _go(step: CheckStep, talk: Talk, target: Target) -> Script[None]:
    """Take one step."""
    send = step.send
    if step.has_variables:
        send = _fill(send, target)
    if send:
        talk.received.clear()
    if send or talk.is_datagram:
        yield send
    if step.expect is None:
        return
    talk.expected = str(step.expect)
    if talk.is_datagram:
        yield from talk.datagram()
    yield from _expect(step.expect, talk)


def _expect(expect: Expect, talk: Talk) -> Script[None]:
    """Read until the answer meets the expectation, and drop the match."""
    while True:
        received = bytes(talk.received)
        if talk.is_eof and not received:
            raise CheckFailedError(f"the connection was closed without an answer: {talk.came()}")
        verdict = expect.judge(received, is_complete=talk.is_eof or talk.is_datagram)
        if verdict is Verdict.NO:
            raise talk.unexpected()
        if verdict is Verdict.YES:
            del talk.received[: expect.end(received)]
            return
        yield from talk.more()


def parse_template(text: str) -> bytes:
    r"""Return a text with escapes as a template; `$` begins a variable. Raises WireError.

    This resolves escapes, and doubles a dollar sign from \x24, so that `_fill` sees no variable.
    """
    parts: list[bytes] = []
    end = 0
    for match in VARIABLE.finditer(text):
        if match[1] not in VARIABLES:
            names = ", ".join(f"${name}" for name in VARIABLES)
            raise WireError(rf"the variables are {names}; a dollar sign is \x24")
        parts += [_literal(text[end : match.start()]), match[0].encode()]
        end = match.end()
    return b"".join([*parts, _literal(text[end:])])


def _literal(text: str) -> bytes:
    return unescape(text).replace(b"$", b"$$")


FILLABLE: Final = re.compile(rb"\$(\$|address|port|hostname)")


def _fill(template: bytes, target: Target) -> bytes:
    """Return the bytes of a template for one backend."""
    address = target.address
    values = {
        b"$": b"$",
        b"address": (address.path or address.host).encode("utf-8", "surrogateescape"),
        b"port": str(address.port).encode(),
        b"hostname": target.hostname.encode("utf-8", "surrogateescape"),
    }
    return FILLABLE.sub(lambda match: values[match[1]], template)
