"""A haproxy.cfg as sections of lines, with HAProxy's inheritance.

A section begins with its keyword (`frontend www`) and ends where the next one begins. A proxy
(frontend, backend, listen) inherits from the `defaults` section that it names (`from`), or else
from the last one before it, which may itself come `from` a named one. Proxies never inherit from
each other.

`Proxy` shows the lines that apply to a proxy: the last one of a keyword with one value, and all
lines of a keyword that makes a list, those of `defaults` first.

Lines within .if and .endif are read only if the condition is a plain number: no other condition can
be evaluated here, so these lines are listed and left out.

Source: HAProxy's configuration manual, 2.1, 2.4 and 4.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from nginy.commands.importing.haproxy.words import split_line
from nginy.commands.importing.model import Files, refuse
from nginy.commands.importing.report import shown
from nginy.config.node import closest, did_you_mean, quote
from nginy.errors import InvalidValueError

PROXIES: Final = ("frontend", "backend", "listen")
KINDS: Final = (
    *("global", "defaults", *PROXIES, "resolvers", "peers", "userlist", "mailers", "program"),
    *("cache", "ring", "http-errors", "fcgi-app", "log-forward", "log-profile", "crt-store"),
    *("traces", "acme", "dynamic-update"),
)
ONLY_ONE: Final = ("global", "traces", "crt-store", "dynamic-update")
"""Sections that need no name."""
CONDITIONS: Final = (".if", ".elif", ".else", ".endif")
MESSAGES: Final = (".notice", ".warning", ".alert", ".diag")


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One line with a directive; each is itself alone, even if another has the same words."""

    file: str
    number: int
    words: tuple[str, ...]
    above: tuple[str, ...] = ()
    behind: str = ""

    @property
    def text(self) -> str:
        """The directive as shown."""
        return shown(self.words)

    @property
    def is_off(self) -> bool:
        """Whether it takes back what its keyword does (`no option tcpka`)."""
        return self.words[0] in ("no", "default")

    @property
    def bare(self) -> tuple[str, ...]:
        """The words without `no` and `default`."""
        return self.words[1:] if self.is_off and len(self.words) > 1 else self.words

    def word(self, index: int) -> str:
        """Return a word, "" if there are fewer."""
        return self.words[index] if index < len(self.words) else ""


@dataclass(slots=True, eq=False)
class Section:
    """A section: the line that begins it, and those in it."""

    head: Line
    lines: list[Line] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Its keyword."""
        return self.head.words[0]

    @property
    def name(self) -> str:
        """Its name; "" if it has none."""
        name = self.head.word(1)
        return "" if name == "from" and self.kind == "defaults" else name

    @property
    def origin(self) -> str:
        """The name of the defaults section that it asks for; "" if it asks for none."""
        words = self.head.words
        return words[words.index("from") + 1] if "from" in words[1:-1] else ""


@dataclass(slots=True)
class Parsed:
    """All sections, what was left out while reading, and the comments at the end."""

    sections: list[Section] = field(default_factory=list)
    skipped: list[tuple[Line, str]] = field(default_factory=list)
    """Lines that are in no section, and why."""
    end: tuple[str, ...] = ()

    def of(self, *kinds: str) -> Iterator[Section]:
        """Yield the sections of these kinds."""
        return (section for section in self.sections if section.kind in kinds)


class _Reader:
    """Reads one file into `parsed`."""

    def __init__(self, file: str, parsed: Parsed) -> None:
        self.file = file
        self.parsed = parsed
        self.section: Section | None = None
        self.comments: list[str] = []
        self.branches: list[tuple[Line, bool | None]] = []
        """For each open .if: where it is, and whether its lines apply; None if unknown."""
        self.was_taken: list[bool] = []
        """For each open .if: whether one of its branches held."""

    def read(self, text: str) -> None:
        for number, raw in enumerate(text.split("\n"), 1):
            name = self.section.name or self.section.kind if self.section is not None else ""
            pseudo = {".FILE": self.file, ".LINE": str(number), ".SECTION": name}
            try:
                words, comment = split_line(raw.removesuffix("\r"), pseudo)
            except InvalidValueError as error:
                raise refuse(self.file, number, f"the line {error.clause}") from None
            if words:
                above, self.comments = tuple(self.comments), []
                self._take(Line(self.file, number, words, above, comment or ""))
            elif comment is not None:
                self.comments.append(comment)
        if self.branches:
            line = self.branches[-1][0]
            raise refuse(self.file, line.number, ".if has no .endif")
        self.parsed.end += tuple(self.comments)

    def _take(self, line: Line) -> None:
        word = line.words[0]
        if word in CONDITIONS:
            self._branch(line)
        elif word in MESSAGES:
            self.parsed.skipped.append((line, "nginy prints no messages from a configuration"))
        elif not all(holds for _, holds in self.branches):
            if any(holds is None for _, holds in self.branches):
                text = "nginy cannot evaluate its .if, and leaves it out"
                self.parsed.skipped.append((line, text))
        elif word in KINDS:
            self._begin(line)
        elif self.section is None:
            hint = did_you_mean(closest(word, KINDS))
            expected = "expected global, defaults, frontend, backend or listen first"
            raise refuse(
                self.file, line.number, f"{quote(word)} is in no section, {expected}{hint}"
            )
        else:
            self.section.lines.append(line)

    def _branch(self, line: Line) -> None:
        word = line.words[0]
        if word != ".if" and not self.branches:
            raise refuse(self.file, line.number, f"{word} without .if")
        if word == ".endif":
            self.branches.pop()
            self.was_taken.pop()
            return
        holds: bool | None = None
        if len(line.words) == 1 and word != ".else":
            holds = False
        elif line.word(1).isdecimal():
            holds = line.word(1).strip("0") != ""
        if word == ".if":
            self.branches.append((line, holds))
            self.was_taken.append(holds is True)
        else:
            before = self.branches[-1][1]
            holds = True if word == ".else" else holds
            after = None if before is None else False if self.was_taken[-1] else holds
            self.branches[-1] = line, after
            self.was_taken[-1] |= after is True
        if self.branches[-1][1] is None:
            text = "nginy has no conditions in a configuration; its lines are left out"
            self.parsed.skipped.append((line, text))

    def _begin(self, line: Line) -> None:
        kind, words = line.words[0], line.words
        if kind not in (*ONLY_ONE, "defaults") and len(words) == 1:
            raise refuse(self.file, line.number, f"{kind} has no name")
        rest = words[2:] if kind in PROXIES else ()
        if rest and (rest[0] != "from" or len(rest) != 2):
            text = f"{quote(shown(rest))} after the name of a {kind}, expected bind on a line"
            raise refuse(self.file, line.number, f"{text} of its own")
        self.section = Section(line)
        self.parsed.sections.append(self.section)


def read_sections(path: str, files: Files) -> Parsed:
    """Return the sections of a file, or of all *.cfg in a directory. Raise ConfigError."""
    parsed = Parsed()
    for file in _paths(path, files):
        try:
            text = files.read(file)
        except InvalidValueError as error:
            raise refuse(file, 0, error.clause) from None
        _Reader(file, parsed).read(text.removeprefix("\ufeff"))
    if not any(parsed.of("global", "defaults", *PROXIES)):
        raise refuse(path, 0, "no section of HAProxy, expected frontend, backend or listen")
    _check_names(parsed)
    return parsed


def _paths(path: str, files: Files) -> Sequence[str]:
    """Return what HAProxy's -f reads: a file, or the *.cfg in a directory, in order."""
    return files.match(f"{path.rstrip('/')}/*.cfg") or (path,)


def _check_names(parsed: Parsed) -> None:
    """Refuse two proxies of one name where a reference could mean either."""
    seen: dict[tuple[str, str], Line] = {}
    for section in parsed.of(*PROXIES):
        sides = ("frontend", "backend") if section.kind == "listen" else (section.kind,)
        for side in sides:
            first = seen.setdefault((side, section.name), section.head)
            if first is not section.head:
                text = f"{section.kind} {quote(section.name)} is already at "
                place = f"{first.file}:{first.number}"
                raise refuse(section.head.file, section.head.number, text + place)


@dataclass(slots=True, eq=False)
class Proxy:
    """A frontend, backend or listen section with all that it inherits."""

    section: Section
    inherited: tuple[Line, ...]
    keyword: dict[Line, str]
    """The keyword of each line, such as "timeout client"; lines of unknown ones are not here."""
    single: dict[str, Line] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find the line that applies for each keyword."""
        for line in self.lines:
            self.single[self.keyword.get(line, "")] = line

    @property
    def name(self) -> str:
        """Its name."""
        return self.section.name

    @property
    def is_front(self) -> bool:
        """Whether clients come to it."""
        return self.section.kind != "backend"

    @property
    def is_back(self) -> bool:
        """Whether it may have servers."""
        return self.section.kind != "frontend"

    @property
    def lines(self) -> tuple[Line, ...]:
        """All lines, those of `defaults` first."""
        return (*self.inherited, *self.section.lines)

    @property
    def mode(self) -> str:
        """Its mode; tcp unless set."""
        line = self.single.get("mode")
        return line.word(1) if line is not None else "tcp"

    def get(self, keyword: str) -> Line | None:
        """Return the line that applies for a keyword; None if there is none or it is off."""
        line = self.single.get(keyword)
        return None if line is None or line.is_off else line

    def all(self, *keywords: str) -> list[Line]:
        """Return all lines of keywords that make a list; `no` empties it."""
        found: list[Line] = []
        for line in self.lines:
            if self.keyword.get(line) in keywords:
                found = [] if line.is_off else [*found, line]
        return found

    def own_or_inherited(self, *keywords: str) -> list[Line]:
        """Return the lines of a list that replaces the inherited one as a whole."""
        own = [line for line in self.section.lines if self.keyword.get(line) in keywords]
        return own or [line for line in self.inherited if self.keyword.get(line) in keywords]


def lines_of_defaults(parsed: Parsed) -> dict[Section, tuple[Line, ...]]:
    """Return what each proxy and each defaults section inherits. Raise ConfigError."""
    named: dict[str, Section] = {}
    last: Section | None = None
    inherited: dict[Section, tuple[Line, ...]] = {}
    for section in parsed.of("defaults", *PROXIES):
        source = last if section.kind != "defaults" else None
        if section.origin:
            source = named.get(section.origin)
            if source is None:
                text = f"there is no defaults section {quote(section.origin)} before it"
                hint = did_you_mean(closest(section.origin, named))
                raise refuse(section.head.file, section.head.number, f"{text}{hint}")
        inherited[section] = (*inherited[source], *source.lines) if source is not None else ()
        if section.kind == "defaults":
            last = section
            if section.name:
                named[section.name] = section
    return inherited


def keyword_of(words: Iterable[str], known: Iterable[str]) -> str | None:
    """Return the longest known keyword that these words begin with, such as "timeout client"."""
    words = tuple(words)
    known = frozenset(known)
    for count in (3, 2, 1):
        text = " ".join(words[:count]).partition("(")[0]
        if text in known:
            return text
    return None
