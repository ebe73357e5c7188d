"""The fate of each directive: an entry for each, the lines of the report, the exit status.

The exit status is 0 only if every directive is carried over exactly, so a script can rely on it; it
is 3 if anything differs or is left out, whether or not clients can notice. A directive that needs
no key, because nginy does the same by itself, counts as exact.

Tested in tests/commands/importing/test_front.py.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from nginy.text.escape import escape_control

SAME: Final = 0
DIFFERENT: Final = 3
"""Exit statuses; 1 is for what cannot be read at all."""
DIRECTIVE_MAX_CHARACTERS: Final = 60
"""How much of one directive is shown."""


class Fate(Enum):
    """What becomes of a directive, the best first."""

    EXACT = "exact"
    CLOSE = "close"
    LEFT_OUT = "left out"


ORDER: Final = tuple(Fate)


@dataclass(slots=True)
class Verdict:
    """The verdicts on one directive: the worst fate counts, and all texts."""

    fate: Fate = Fate.EXACT
    texts: list[str] = field(default_factory=list)

    def judge(self, fate: Fate, text: str = "") -> None:
        """Add one verdict; EXACT needs no text."""
        self.fate = max(self.fate, fate, key=ORDER.index)
        if text and fate is not Fate.EXACT and text not in self.texts:
            self.texts.append(text)

    @property
    def text(self) -> str:
        """All texts as one."""
        return "; ".join(self.texts)


@dataclass(frozen=True, slots=True)
class Entry:
    """One directive of the other program's configuration, and what became of it."""

    file: str
    line: int
    directive: str
    """The directive as shown, such as "proxy_timeout 5s"."""
    fate: Fate
    text: str = ""
    """CLOSE: what differs, and the consequence; LEFT_OUT: what that means for clients."""

    @property
    def is_exact(self) -> bool:
        """Whether the directive is carried over exactly."""
        return self.fate is Fate.EXACT


def shown(words: Iterable[str]) -> str:
    """Return a directive for a line of the report, or of a comment."""
    text = escape_control(" ".join(words))
    text = "".join(c if c.isprintable() else "?" for c in text)
    if len(text) > DIRECTIVE_MAX_CHARACTERS:
        text = f"{text[: DIRECTIVE_MAX_CHARACTERS - 3]}..."
    return text


def render_report(entries: Sequence[Entry]) -> list[str]:
    """Return the lines of the report: each directive with its place, then the counts."""
    places = [f"{entry.file}:{entry.line}" for entry in entries]
    width = max(map(len, places), default=0)
    lines = []
    for place, entry in zip(places, entries, strict=True):
        why = f": {entry.text}" if entry.text else ""
        line = f"{entry.fate.value:<8}  {place:<{width}}  {entry.directive}{why}"
        lines.append(escape_control(line))
    return [*lines, counts(entries)]


def counts(entries: Sequence[Entry]) -> str:
    """Return the last line of the report."""
    number = Counter(entry.fate for entry in entries)
    total = f"{len(entries)} directive{'' if len(entries) == 1 else 's'}"
    close = number[Fate.CLOSE]
    return (
        f"{total}: {number[Fate.EXACT]} the same, {close} differ{'s' if close == 1 else ''}, "
        f"{number[Fate.LEFT_OUT]} not carried over"
    )


def status(entries: Sequence[Entry]) -> int:
    """Return the exit status."""
    return SAME if all(entry.is_exact for entry in entries) else DIFFERENT
