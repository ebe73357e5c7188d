"""The key `steps` of a health check, and the texts that a check sends and expects.

A step sends, expects, or does both; nginy/wire/checks/steps.py goes through them. check_steps()
checks what spans the keys of one check; health.py has the rest of its keys.

The functions of wire/ that will use a text also check it here, so a text that they refuse is an
error of the file, with its place, and not a failure of the first check.

Tested in tests/config/test_health.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from nginy.config.node import Findings, Mark, Node, ScalarNode
from nginy.config.record import Entry, ListOf, Record, key
from nginy.config.secrets import secret
from nginy.config.types import Duration, OrOff, Plain, ScalarKind, Text
from nginy.errors import InvalidValueError
from nginy.text.units import format_duration
from nginy.wire.checks.steps import parse_template
from nginy.wire.errors import WireError
from nginy.wire.expect import parse_expect

BYTES: Final = r"text, with escapes such as \r\n and \x00"


class WireText(ScalarKind[str]):
    """A text that a function of wire/ accepts; raw bytes are lone surrogates in it."""

    has_bytes = True

    def __init__(self, expected: str, take: Callable[[str], object]) -> None:
        self.expected = expected
        self.take = take

    def parse(self, text: str, mark: Mark) -> str:
        """Return the text itself if the function accepts it."""
        try:
            self.take(text)
        except WireError as error:
            raise InvalidValueError(f"cannot be used ({error})") from None
        return text

    def write(self, value: str) -> Plain:
        """Return the text itself."""
        return value


EXPECT: Final = OrOff(WireText("a text to begin with, or ~ and a regular expression", parse_expect))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Entry):
    """One step of a check: what to send, and what has to come."""

    send: str = key(
        secret(WireText(f"{BYTES}, and with $address, $port and $hostname", parse_template)),
        "",
        r"nginy sends this; \x24 is a dollar sign.",
    )
    expect: str | None = key(
        EXPECT, "off", "The answer must begin with this text or match it; off goes on at once."
    )
    timeout_ms: int | None = key(
        OrOff(Duration()), "off", "The answer may take this long; off is as long as the check."
    )
    label: str = key(
        Text("a name for reasons", r"[^\x00-\x1f\"]*"), "", "The name of the step in reasons."
    )


class Steps(ListOf[Step]):
    """A list of steps, or `off` for none."""

    def __init__(self) -> None:
        super().__init__(Record(Step, "a step"))
        self.expected = f"off, or {self.expected}"

    def read(self, node: Node, findings: Findings) -> tuple[Step, ...]:
        """Return the steps."""
        if isinstance(node, ScalarNode) and node.text == "off":
            return ()
        return super().read(node, findings)

    def write(self, value: tuple[Step, ...]) -> Plain:
        """Return the list or `off`."""
        return super().write(value) if value else "off"


STEPS: Final = Steps()


def check_steps(
    steps: tuple[Step, ...], beside: Mapping[str, Mark], timeout_ms: int, findings: Findings
) -> None:
    """Report steps that do nothing, timeouts without effect, and what stands `beside` steps."""
    for name, mark in beside.items() if steps else ():
        findings.report(mark, f"{name}: belongs in a step when there are steps")
    for step in steps:
        if not step.origin.has("send", "expect", "timeout"):
            continue
        if not step.send and step.expect is None:
            findings.report(step.origin.mark, "a step that neither sends nor expects anything")
        elif step.timeout_ms is not None and step.expect is None:
            findings.report(step.origin.of("timeout"), "timeout: is for a step with expect")
        elif step.timeout_ms is not None and step.timeout_ms > timeout_ms:
            times = format_duration(step.timeout_ms), format_duration(timeout_ms)
            text = "timeout: {}, expected at most that of the check ({})".format(*times)
            findings.report(step.origin.of("timeout"), text)
