"""What a reload would change: two configurations in, a list of changes out.

This module is pure: it opens and applies nothing. The server logs the list when it reloads
(`process/report.py`). `nginy plan` prints it before a reload, together with what stays the same.

The kinds of the table (config/schema.py) compare and print values, so a new key shows up here by
itself. Upstreams, backends and listeners match by their name, address or path; their order in the
file does not matter.

For hash methods, `moving.py` says how many keys go elsewhere. Values of secret keys are masked, as
the log and the admin interface show the list to more people than may read the file.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeVar

from nginy.commands.moving import moved_share
from nginy.config import upstream as upstream_keys
from nginy.config.addresses import ListenAddresses
from nginy.config.checking.targets import by_upstream
from nginy.config.dump import HIDES, SECRET_KEYS, mask_of
from nginy.config.record import Entry, Record
from nginy.config.schema import CONFIG, LISTENER, Config, Listener
from nginy.config.types import Plain
from nginy.config.upstream import UPSTREAM, Upstream
from nginy.text.address import Address
from nginy.text.units import format_duration

R = TypeVar("R", bound=Entry)

BACKEND: Final = Record(upstream_keys.Backend, "a backend", shorthand="address")

ADDED: Final = "added"
REMOVED: Final = "removed"
CHANGED: Final = "changed"

MARKS: Final = {ADDED: "+", REMOVED: "-", CHANGED: "~"}
"""The mark of each kind of change, as in a diff."""

NEEDS_RESTART: Final = frozenset({"event_method", "user", "workers"})
"""Keys that only a start reads."""

VALUE_MAX_CHARACTERS: Final = 60
"""How much of one value is shown; a log format may be long."""
ROUTE_MAX_CHARACTERS: Final = 160
"""How much of one route is shown."""


class ChangeLine(NamedTuple):
    """A change, ready to print, in this or in another process."""

    op: str
    """One of `MARKS`."""
    subject: str
    text: str
    """The whole sentence, which begins with the subject."""

    def __str__(self) -> str:
        """Return the line of `nginy plan`."""
        return f"{self.op} {self.text}"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that a reload adds, removes or changes.

    `subject` names it, as "upstream web: backend 127.0.0.1:9001"; `details` are its keys with old
    and new values; `effect` says what happens to sessions, if anything does.
    """

    subject: str
    action: str
    details: tuple[str, ...] = ()
    effect: str = ""

    def __str__(self) -> str:
        details = f": {', '.join(self.details)}" if self.details else ""
        effect = f" ({self.effect})" if self.effect else ""
        return f"{self.subject} {self.action}{details}{effect}"

    @property
    def line(self) -> ChangeLine:
        """The change as it is printed."""
        return ChangeLine(MARKS[self.action], self.subject, str(self))


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes of a reload, in the order of the table, and the subjects that stay the same."""

    changes: tuple[Difference, ...]
    unchanged: tuple[str, ...]


def plan(old: Config, new: Config) -> Plan:
    """Return what a reload from `old` to `new` changes."""
    changes: list[Difference] = []
    unchanged: list[str] = []
    for found in (_settings(old, new), _upstreams(old, new), _listeners(old, new)):
        for item in found:
            if isinstance(item, Difference):
                changes.append(item)
            else:
                unchanged.append(item)
    return Plan(tuple(changes), tuple(unchanged))


def needing_restart(old: Config, new: Config) -> tuple[str, ...]:
    """Return the keys of `new` that a process running `old` cannot adopt."""
    return tuple(
        name
        for name in sorted(NEEDS_RESTART)
        if getattr(old, CONFIG.keys[name].field) != getattr(new, CONFIG.keys[name].field)
    )


def reloadable(old: Config, new: Config) -> Config:
    """Return what runs after a reload from `old` to `new`, without the keys for a restart."""
    names = needing_restart(old, new)
    if not names:
        return new
    kept = {CONFIG.keys[name].field: getattr(old, CONFIG.keys[name].field) for name in names}
    return replace(new, **kept)


Found = Iterator[Difference | str]
"""Changes, and the names of subjects without any."""


# Settings of the whole process.


def _settings(old: Config, new: Config) -> Found:
    for name, row in CONFIG.keys.items():
        # Listeners have inherited access_log, so they show its changes.
        if name in ("upstreams", "listeners", "access_log"):
            continue
        before, after = getattr(old, row.field), getattr(new, row.field)
        if before != after:
            details = tuple(_differences("", row.kind.write(before), row.kind.write(after)))
            details = details or ("a file that it names has changed",)
            effect = "needs a restart" if name in NEEDS_RESTART else ""
            yield Difference(name, CHANGED, details, effect)


# Upstreams and their backends.


def _upstreams(old: Config, new: Config) -> Found:
    listeners = by_upstream(old.listeners)
    for name, upstream in new.upstreams.items():
        before = old.upstreams.get(name)
        if before is None:
            yield Difference(
                f"upstream {name}", ADDED, (_count(len(upstream.backends), "backend"),)
            )
        else:
            drains = _drains(listeners.get(name, ()))
            yield from _upstream(f"upstream {name}", before, upstream, drains)
    for name in old.upstreams:
        if name not in new.upstreams:
            yield Difference(f"upstream {name}", REMOVED, effect="its sessions go on")


def _drains(listeners: Sequence[Listener]) -> str:
    """Return how long sessions go on after their backend leaves an upstream.

    `listeners` are those of the old configuration: a session keeps the settings it began with.
    """
    times_ms = {entry.proxy_drain_timeout_ms for entry in listeners}
    known_ms = [time_ms for time_ms in times_ms if time_ms is not None]
    is_limited = known_ms and len(known_ms) == len(times_ms)
    limit = f", {format_duration(max(known_ms))} at most" if is_limited else ""
    return f"drains: its sessions go on{limit}"


def _upstream(subject: str, old: Upstream, new: Upstream, drains: str) -> Found:
    details = _details(UPSTREAM, old, new, ("backends",))
    changes = list(_backends(subject, _by_name(old.backends), _by_name(new.backends), drains))
    if details:
        yield Difference(subject, CHANGED, details)
    elif not changes:
        yield subject
    yield from changes


def _backends(
    subject: str,
    old: dict[str, upstream_keys.Backend],
    new: dict[str, upstream_keys.Backend],
    drains: str,
) -> Iterator[Difference]:
    for name, backend in new.items():
        if name not in old:
            yield Difference(f"{subject}: backend {name}", ADDED)
            continue
        details = _details(BACKEND, old[name], backend, ("address",))
        if details:
            yield Difference(f"{subject}: backend {name}", CHANGED, details)
    for name in old:
        if name not in new:
            yield Difference(f"{subject}: backend {name}", REMOVED, effect=drains)


def _by_name(backends: Sequence[upstream_keys.Backend]) -> dict[str, upstream_keys.Backend]:
    """Return backends by their address as configured, and repeated ones by their count as well."""
    named: dict[str, upstream_keys.Backend] = {}
    seen: Counter[str] = Counter()
    for backend in backends:
        name = f"{backend.address.name} {backend.service or ''}".rstrip()
        seen[name] += 1
        named[name if seen[name] == 1 else f"{name} #{seen[name]}"] = backend
    return named


# Listeners, by address; addresses of one entry with the same change share a line.


@dataclass(frozen=True, slots=True)
class _Fate:
    """What happens to one address of an entry; `action` is empty if nothing does."""

    entry: int
    """The index of the listener in the configuration that names it."""
    protocol: str
    action: str
    details: tuple[str, ...] = ()


def _listeners(old: Config, new: Config) -> Found:
    before, after = _by_address(old), _by_address(new)
    timeout_ms = new.worker_shutdown_timeout_ms
    limit = "" if timeout_ms is None else f", {format_duration(timeout_ms)} at most"
    fates: dict[_Fate, list[Address]] = {}
    for key, (entry, listener) in after.items():
        details: tuple[str, ...] = (_target(listener),)
        action = ADDED
        if key in before:
            skipped = ("listen", "protocol")
            details = _details(LISTENER, before[key][1], listener, skipped)
            action = CHANGED if details else ""
        fates.setdefault(_Fate(entry, key[0], action, details), []).append(key[1])
    for key, (entry, _) in before.items():
        if key not in after:
            fates.setdefault(_Fate(entry, key[0], REMOVED), []).append(key[1])
    for fate, addresses in fates.items():
        written = ListenAddresses().write(tuple(addresses))
        where = ", ".join(map(_text, written)) if isinstance(written, list) else _text(written)
        subject = f"listener {where}{' udp' if fate.protocol == 'udp' else ''}"
        effect = f"its sessions go on{limit}" if fate.action == REMOVED else ""
        yield Difference(subject, fate.action, fate.details, effect) if fate.action else subject


def _by_address(config: Config) -> dict[tuple[str, Address], tuple[int, Listener]]:
    return {
        (listener.protocol, address): (entry, listener)
        for entry, listener in enumerate(config.listeners)
        for address in listener.listen
    }


def _target(listener: Listener) -> str:
    routes = f"{_count(len(listener.routes), 'route')}, else " if listener.routes else ""
    if listener.proxy_pass is not None:
        return f"{routes}to {listener.proxy_pass}"
    return f"{routes}returns text" if listener.return_ is not None else f"{routes}denies"


# Differences between two records of one kind, in YAML.


def _details(record: Record[R], old: R, new: R, skipped: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the keys that differ, as "weight 1 -> 2"."""
    if old == new:
        return ()
    found: list[str] = []
    for name, row in record.keys.items():
        before, after = getattr(old, row.field), getattr(new, row.field)
        if name not in skipped and before != after:
            was, will_be = row.kind.write(before), row.kind.write(after)
            if name == "routes":
                found += _route_differences(was, will_be)
            elif was == will_be:
                found.append(f"{name}: a file that it names has changed")
            else:
                found += _differences(name, was, will_be)
    return tuple(found)


def _differences(path: str, old: Plain, new: Plain) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            before, after = old.get(name, "-"), new.get(name, "-")
            where = f"{path}.{name}".lstrip(".")
            if before != after and (name in SECRET_KEYS or name in HIDES):
                was = mask_of(name, before) if name in old else before
                will_be = mask_of(name, after) if name in new else after
                yield f"{where} {_text(was)} -> {_text(will_be)}"
            elif before != after:
                yield from _differences(where, before, after)
    elif (
        isinstance(old, list)
        and isinstance(new, list)
        and sorted(map(repr, old)) != sorted(map(repr, new))
    ):
        yield from (f"{path} + {_text(item)}".lstrip() for item in new if item not in old)
        yield from (f"{path} - {_text(item)}".lstrip() for item in old if item not in new)
    else:
        yield f"{path} {_text(old)} -> {_text(new)}".lstrip()


def _route_differences(old: Plain, new: Plain) -> Iterator[str]:
    """Yield added and removed routes, and whether the others changed their order."""
    before = {repr(route): route for route in (old if isinstance(old, list) else ())}
    after = {repr(route): route for route in (new if isinstance(new, list) else ())}
    for key, route in after.items():
        if key not in before:
            yield f"route + {_text(route, ROUTE_MAX_CHARACTERS)}"
    for key, route in before.items():
        if key not in after:
            yield f"route - {_text(route, ROUTE_MAX_CHARACTERS)}"
    if [key for key in after if key in before] != [key for key in before if key in after]:
        yield "routes in another order"


def _text(value: Plain, max_characters: int = VALUE_MAX_CHARACTERS) -> str:
    """Return a value on one short line, in YAML's flow style."""
    if isinstance(value, dict):
        items = [f"{name}: {_text(mask_of(name, item))}" for name, item in value.items()]
        text = "{" + ", ".join(items) + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(map(_text, value)) + "]"
    else:
        text = value if value and value.isprintable() else repr(value)
    return text if len(text) <= max_characters else f"{text[:max_characters]}..."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# As text.


def render_plan(old: Config, new: Config) -> str:
    """Return the plan as text: a line for each subject, marked as in a diff."""
    made = plan(old, new)
    lines = [str(change.line) for change in made.changes]
    for name, upstream in new.upstreams.items():
        before = old.upstreams.get(name)
        share = None if before is None or before == upstream else moved_share(before, upstream)
        if share is not None:
            lines.append(f"~ upstream {name}: {share:.1%} of keys move to another backend")
    lines += [f"= {subject} unchanged" for subject in made.unchanged]
    if not made.changes:
        lines.append("nothing changes")
    return "\n".join(lines) + "\n"
