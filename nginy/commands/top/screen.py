"""Screen: the lines that a terminal of some size shows of a snapshot.

    process, generation, status                              order, interval
    figures of nginy as a whole, and a small chart
    the worst problem, or what is wrong with the answers
    HEADINGS OF THE TABLE
    ...
    the chosen line in words, or a question
    keys

Pure: each line is a list of spans, text with the name of a style, and is as wide as the terminal.
"""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from nginy.commands.top.cells import Glyphs, count, fit, rate, scaled, span, sparks, width_of
from nginy.commands.top.snapshot import UNKNOWN, Facts, Snapshot
from nginy.commands.top.state import State
from nginy.commands.top.tables import COLUMNS, ORDERS, Column, Line, details
from nginy.text.counts import counted

Span = tuple[str, str]
"""Text and style: head, bar, good, warn, bad, blue, dim, bold, selected or "" for none."""

ABOVE: Final = 4
"""Lines above those of the table."""
WIDTH_MIN: Final = 40
HEIGHT_MIN: Final = 9
GROWN_MAX: Final = 16
SPARKS_MIN: Final = 8
SPARKS_MAX: Final = 30
STYLED: Final = frozenset({"STATE", "WHERE", "LISTENER"})
"""Columns whose cells have the style of their line."""

KEYS: Final = (
    "F1 help",
    "u/l/s/e views",
    "/ filter",
    "n next",
    "o sort",
    "Enter details",
    "p pause",
    "+/- interval",
    "q quit",
)
CHANGING_KEYS: Final = ("D drain", "M maint", "R ready", "K kill", "W weight")
HELP: Final = """\
u l s e      upstreams, listeners, sessions, events
up down      choose a line; PgUp, PgDn, Home and End go further
/ TEXT       show lines with all words of TEXT, n goes to the next one
             for sessions also client=10.0.0.0/8, state=established, min_age=10m
n            without a filter: go to the next backend with a problem
o            change the order
Enter        show all facts of the chosen line; Esc goes back
p            pause
+ -          lengthen or shorten the interval
q            quit

NEW/S are new sessions a second; IN/S and OUT/S are bits a second, from clients
and to them.
"""
CHANGING_HELP: Final = """\
D M R        drain a backend, take it out of service, or put it back
K            end a session, or those of a backend, an upstream or a listener
W            change the weight of a backend, but not the file
"""


@dataclass(frozen=True, slots=True)
class Size:
    """Of the terminal."""

    width: int
    height: int


def footer(state: State, width: int) -> list[str]:
    """Return the lines that list the keys."""
    words = [*KEYS[:-1], *(CHANGING_KEYS if state.may_change else ()), KEYS[-1]]
    found = [words[0]]
    for word in words[1:]:
        if len(found[-1]) + 2 + len(word) <= width:
            found[-1] += f"  {word}"
        else:
            found.append(word)
    return found


def body_height(state: State, size: Size) -> int:
    """Return how many lines of a table there is room for."""
    return max(size.height - ABOVE - 1 - len(footer(state, size.width)), 1)


def draw(
    shot: Snapshot,
    state: State,
    lines: Sequence[Line],
    size: Size,
    glyphs: Glyphs,
    trouble: str = "",
) -> list[list[Span]]:
    """Return all lines of the screen; `trouble` says why there is no newer snapshot."""
    if size.width < WIDTH_MIN or size.height < HEIGHT_MIN:
        text = f"the terminal is smaller than {WIDTH_MIN}x{HEIGHT_MIN}"
        return [[(fit(text, size.width, glyphs.cut), "warn")]]
    found = [
        _process(shot.overview, state, size.width, glyphs),
        _figures(shot, size.width, glyphs),
        _problem(shot, size.width, glyphs, trouble),
    ]
    room = body_height(state, size)
    if state.has_help:
        found += _text("HELP", _help(state), size.width, room, glyphs)
    elif shot.view != state.view:
        found += _text(state.view.upper(), ["asking"], size.width, room, glyphs)
    elif state.has_details and lines:
        line = lines[state.place]
        more = shot.details if shot.about == line.key else None
        about = _wrapped(details(line, more), size.width)
        found += _text(line.key, about, size.width, room, glyphs)
    else:
        found += _table(state, lines, size.width, room, glyphs, shot.more)
    found.append(_said(state, lines, size.width, glyphs))
    found += [[(fit(line, size.width, glyphs.cut), "dim")] for line in footer(state, size.width)]
    return found[: size.height]


# Above the table.


def _process(overview: Facts, state: State, width: int, glyphs: Glyphs) -> list[Span]:
    config, workers = overview["config"], overview.get("workers")
    last = config["last_reload"]
    reload_ = f" {last['result']} {last['at'][11:16]}" if last else ""
    asked = f" {workers['answered']}/{workers['asked']} workers" if workers else ""
    text = (
        f"nginy {overview['version']} pid {overview['pid']}{asked} up "
        f"{span(overview['uptime_s'])}  gen {config['generation']}{reload_}  {overview['status']}"
    )
    order = ORDERS[state.view][state.order % len(ORDERS[state.view])][0]
    pace = "paused" if state.is_paused else f"{state.interval_s:g}s"
    wanted = f"/{state.wanted}  " if state.wanted else ""
    right = f"{wanted}by {order}  {pace}"
    room = width - len(text) - 2
    if len(right) > room:
        right = right[-room:] if state.is_paused and room >= len(pace) else ""
    return [(fit(text, width - len(right), glyphs.cut), "bold"), (right, "")]


def _figures(shot: Snapshot, width: int, glyphs: Glyphs) -> list[Span]:
    overview = shot.overview
    rates = shot.rates.get("", UNKNOWN)
    bits = [None if each is None else each * 8 for each in (rates.received, rates.sent)]
    loop, connections = overview["loop"], overview["connections"]
    busy = "-" if loop["busy"] is None else f"{loop['busy'] * 100:.0f}%"
    lag_s = loop["lag_p99_s"]
    lag = "-" if lag_s is None else f"{lag_s * 1000:.3g}ms"
    text = (
        f"sessions {count(overview['sessions']['now'])} +{rate(rates.new)}/s"
        f"  in {scaled(bits[0])} out {scaled(bits[1])} b/s"
        f"  conns {scaled(connections['now'])}/{scaled(connections['limit'])}"
        f"  loop {busy} lag {lag}"
    )
    room = width - len(text) - 2
    chart = ""
    if room >= SPARKS_MIN:
        chart = "  " + sparks(shot.history[-min(room, SPARKS_MAX) :], glyphs)
    return [(fit(text, width - width_of(chart), glyphs.cut), ""), (chart, "blue")]


def _problem(shot: Snapshot, width: int, glyphs: Glyphs, trouble: str) -> list[Span]:
    overview = shot.overview
    problems = overview["problems"]
    number = len(problems) + overview["more"]["problems"]
    shape = glyphs.shapes["down"]
    if trouble:
        return [(fit(f"{shape} {trouble}", width, glyphs.cut), "bad")]
    if overview["status"] != "serving":
        text = str(overview["draining"] or overview["status"])
        return [(fit(f"{glyphs.shapes['draining']} {text}", width, glyphs.cut), "blue")]
    if not problems:
        return [(fit(f"{glyphs.shapes['up']} no problems", width, glyphs.cut), "good")]
    first = problems[0]
    since = shot.age_s(first["since"])
    told = "" if since is None else f" ({span(since)})"
    text = f"{shape} {counted(number, 'problem')}: {first['text']}"
    style = "bad" if first["severity"] == "error" else "warn"
    return [(fit(text, width - len(told), glyphs.cut).rstrip() + told, style)]


# The table, and what takes its place.


def _columns(view: str, width: int) -> list[tuple[int, Column, int]]:
    """Return the columns there is room for, each with its index and its width."""
    grown = min(max(width - 80, 0) // 4, GROWN_MAX)
    found = [
        (index, column, column.width + (0 if index else grown))
        for index, column in enumerate(COLUMNS[view])
        if width >= column.from_width
    ]
    index, last, _ = found.pop()
    used = 2 + sum(each + 1 for _, _, each in found)
    # A narrow terminal has no room for the last columns.
    while found and used > width - 6:
        used -= found.pop()[2] + 1
    return [*found, (index, last, width - used)]


def _table(
    state: State, lines: Sequence[Line], width: int, room: int, glyphs: Glyphs, more: int
) -> list[list[Span]]:
    columns = _columns(state.view, width)
    head = " ".join(fit(c.title, each, glyphs.cut, is_right=c.is_right) for _, c, each in columns)
    found: list[list[Span]] = [[(f"  {head}", "head")]]
    for place, line in enumerate(lines[state.first : state.first + room], state.first):
        found.append(_line(line, columns, place == state.place, glyphs))
    if not lines:
        text = "nothing matches the filter" if state.wanted else f"no {state.view}"
        found.append([(fit(f"  {text}", width, glyphs.cut), "dim")])
    elif more and len(found) <= room:
        text = f"  and {more} more; a filter finds them"
        found.append([(fit(text, width, glyphs.cut), "dim")])
    return [*found, *([(" " * width, "")] for _ in range(room + 1 - len(found)))]


def _line(
    line: Line, columns: Sequence[tuple[int, Column, int]], is_selected: bool, glyphs: Glyphs
) -> list[Span]:
    spans: list[Span] = [(f"{glyphs.cursor} " if is_selected else "  ", "")]
    for index, column, width in columns:
        text = fit(line.cells[index], width, glyphs.cut, is_right=column.is_right)
        style = line.style if column.title in STYLED else ""
        if not style and line.is_group:
            style = "bold"
        spans += [(text, style), (" ", "")]
    spans.pop()
    return [(text, "selected") for text, _ in spans] if is_selected else spans


def _text(
    title: str, text: Iterator[str] | Sequence[str], width: int, room: int, glyphs: Glyphs
) -> list[list[Span]]:
    found: list[list[Span]] = [[(fit(f"  {title}", width, glyphs.cut), "head")]]
    found += [[(fit(f"  {line}", width, glyphs.cut), "")] for line in list(text)[:room]]
    return [*found, *([(" " * width, "")] for _ in range(room + 1 - len(found)))]


def _wrapped(text: Iterator[str], width: int) -> Iterator[str]:
    for line in text:
        yield from textwrap.wrap(line, width - 4, subsequent_indent="    ") or [""]


def _help(state: State) -> list[str]:
    text = HELP if not state.may_change else HELP.replace("\nNEW/S", f"{CHANGING_HELP}\nNEW/S")
    return text.splitlines()


# Below the table.


def _said(state: State, lines: Sequence[Line], width: int, glyphs: Glyphs) -> list[Span]:
    prompt = state.prompt
    if prompt is not None:
        text = f"{prompt.text}{prompt.typed}"
        # Show the end of a long text, where the cursor is.
        while width_of(text) >= width:
            text = text[1:]
        return [(fit(f"{text}_" if prompt.kind != "confirm" else text, width, glyphs.cut), "bar")]
    if state.told:
        return [(fit(state.told, width, glyphs.cut), "bar")]
    said = lines[state.place].said if state.place < len(lines) else ""
    return [(fit(said, width, glyphs.cut), "")]


def text_of(screen: Sequence[Sequence[Span]]) -> str:
    """Return what a screen shows, without its styles."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in screen)
