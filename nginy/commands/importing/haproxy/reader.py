"""Reads a whole haproxy.cfg: its sections in order, then the lines that nobody has judged.

A line of `defaults` counts once, however many proxies inherit it. Sections in another mode than tcp
are one entry each.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from nginy.commands.importing.haproxy.backends import follow_tracks, read_back
from nginy.commands.importing.haproxy.fronts import FrontReader
from nginy.commands.importing.haproxy.globals import GlobalReader
from nginy.commands.importing.haproxy.ledger import Ledger
from nginy.commands.importing.haproxy.logs import LogReader
from nginy.commands.importing.haproxy.sections import (
    PROXIES,
    Line,
    Parsed,
    Proxy,
    Section,
    keyword_of,
    lines_of_defaults,
    read_sections,
)
from nginy.commands.importing.haproxy.table import LISTS, PROXY
from nginy.commands.importing.haproxy.table_global import SECTIONS
from nginy.commands.importing.haproxy.tls import TlsReader
from nginy.commands.importing.haproxy.variables import Variables
from nginy.commands.importing.haproxy.world import World
from nginy.commands.importing.model import Document, Files, Imported, refuse
from nginy.commands.importing.report import Fate
from nginy.config.node import closest, did_you_mean

LAYER_4: Final = "nginy is layer 4 and does not read HTTP"
OTHER_MODES: Final = {"http": LAYER_4, "health": "is from an older HAProxy", "log": "is for logs"}
BEGINNING: Final = re.compile(r"(?m)^[ \t]*(global|defaults|frontend|backend|listen)\b([^;{\n]*)$")


def recognizes(text: str) -> bool:
    """Whether a text looks like a haproxy.cfg: some line begins a section."""
    return BEGINNING.search(text) is not None


def read(path: str, files: Files) -> Imported:
    """Return a haproxy.cfg, or all *.cfg in a directory, as nginy has it. Raise ConfigError."""
    parsed = read_sections(path, files)
    return _Reader(parsed, files).read(path)


class _Reader:
    """Goes through all sections."""

    def __init__(self, parsed: Parsed, files: Files) -> None:
        self.parsed = parsed
        self.document = Document()
        self.ledger = Ledger()
        self.files = files
        inherited = lines_of_defaults(parsed)
        self.keywords = dict(_keywords(parsed))
        self.proxies = [
            Proxy(section, inherited[section], self.keywords) for section in parsed.of(*PROXIES)
        ]
        self.tcp = [proxy for proxy in self.proxies if proxy.mode == "tcp" and not _is_off(proxy)]

    def read(self, path: str) -> Imported:
        self._check_modes(path)
        for line, text in self.parsed.skipped:
            self.ledger.left_out(line, text)
        settings = GlobalReader(self.document.top, self.ledger).read(self.parsed)
        variables = Variables(self.document)
        world = World(
            self.document,
            self.ledger,
            self.files,
            settings,
            variables,
            TlsReader(settings.tls, self.files, self.ledger),
        )
        world.others = frozenset(
            proxy.name for proxy in self.proxies if proxy.is_back and proxy not in self.tcp
        )
        found = ((proxy.name, proxy.get("stick-table")) for proxy in self.proxies)
        world.tables = {name: line for name, line in found if line is not None}
        world.backs = {proxy.name: read_back(proxy, world) for proxy in self.tcp if proxy.is_back}
        follow_tracks(world)
        logs = LogReader(self.document, variables, settings.logs, self.ledger)
        for proxy in self.tcp:
            if proxy.is_front and self._has_front(proxy):
                FrontReader(proxy, world, logs).read()
        self._judge_rest()
        self.ledger.annotate(self.document, self._in_order())
        self.document.end.extend(self.parsed.end)
        return Imported(self.document, self.ledger.entries())

    def _has_front(self, proxy: Proxy) -> bool:
        """Whether clients can come to a proxy; a `listen` may have no address of its own."""
        return proxy.section.kind == "frontend" or bool(proxy.all("bind"))

    def _check_modes(self, path: str) -> None:
        """Refuse a configuration in which nothing is in mode tcp."""
        if any(proxy.is_front for proxy in self.tcp):
            return
        http = [proxy for proxy in self.proxies if proxy.mode == "http"]
        if http:
            line = http[0].get("mode") or http[0].section.head
            text = (
                f"all {len(http)} proxies are in mode http"
                if len(http) > 1
                else (f"the only proxy, {http[0].name}, is in mode http")
            )
            raise refuse(line.file, line.number, f"{text}; {LAYER_4}, expected mode tcp")
        raise refuse(path, 0, "no frontend and no listen section in mode tcp, expected one")

    def _in_order(self) -> list[Line]:
        """Return all lines, in the order of the files."""
        lines = []
        for section in self.parsed.sections:
            lines += [section.head, *section.lines]
        return lines

    def _judge_rest(self) -> None:
        """Judge the lines that no reader has judged: by the table."""
        for section in self.parsed.sections:
            if section.kind in PROXIES:
                self._judge_proxy(section)
            elif section.kind == "defaults":
                self._judge_defaults(section)
            elif section.kind in SECTIONS:
                text = SECTIONS[section.kind]
                self._whole(section, text)

    def _whole(self, section: Section, text: str) -> None:
        """Judge a section as one."""
        count = len(section.lines)
        lines = f"{count} line{'' if count == 1 else 's'}"
        self.ledger.show(section.head, f"{section.head.text} ({lines})")
        self.ledger.left_out(section.head, text)

    def _judge_proxy(self, section: Section) -> None:
        proxy = next(each for each in self.proxies if each.section is section)
        if proxy in self.tcp:
            self.ledger.exact(section.head)
            for line in section.lines:
                self._judge(line, [proxy])
        elif proxy.mode == "tcp":
            self._whole(section, "is disabled, and nginy cannot switch off a listener")
        else:
            self._whole(section, f"mode {proxy.mode}: {OTHER_MODES.get(proxy.mode, LAYER_4)}")

    def _judge_defaults(self, section: Section) -> None:
        heirs = [proxy for proxy in self.tcp if set(section.lines) & set(proxy.inherited)]
        self.ledger.exact(section.head)
        for line in section.lines:
            if heirs or self.keywords.get(line) == "mode":
                self._judge(line, heirs)
            else:
                self.ledger.left_out(line, f"is inherited by no section in mode tcp: {LAYER_4}")

    def _judge(self, line: Line, proxies: Iterable[Proxy]) -> None:
        """Judge a line of proxies by its row."""
        if self.ledger.is_judged(line):
            return
        keyword = self.keywords.get(line)
        if keyword is None:
            hint = did_you_mean(closest(line.bare[0], PROXY))
            self.ledger.left_out(line, f"is not known{hint}")
            return
        row = PROXY[keyword]
        holds = any(keyword in LISTS or proxy.get(keyword) is line for proxy in proxies)
        if row.is_read and row.fate is Fate.CLOSE and holds:
            self.ledger.close(line, f"nginy has {row.text} for it")
        elif row.is_read or line.is_off or not holds:
            self.ledger.exact(line)
        else:
            self.ledger.judge(line, row.fate, row.text)


def _keywords(parsed: Parsed) -> Iterator[tuple[Line, str]]:
    """Yield the keyword of each line of proxies that the table knows."""
    for section in parsed.of("defaults", *PROXIES):
        for line in section.lines:
            keyword = keyword_of(line.bare, PROXY)
            if keyword is not None:
                yield line, keyword


def _is_off(proxy: Proxy) -> bool:
    """Whether a proxy is disabled."""
    last = ""
    for line in proxy.lines:
        if line.words[0] in ("disabled", "enabled"):
            last = line.words[0]
    return last == "disabled"
