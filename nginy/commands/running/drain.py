"""`nginy drain`, `maint`, `ready` and `weight`: set a value of a backend while nginy runs.

UPSTREAM/ADDRESS names a backend, as in `web/10.0.0.1:80`; a host name from the configuration means
all its addresses. With --wait the command returns when the last session of the backend has ended,
or, for `ready`, when the backend gets clients again.

Also tested in tests/run/test_admin_changes.py.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from nginy.commands.running.asking import Message, ask_json
from nginy.commands.running.interface import Interface
from nginy.config.node import closest, did_you_mean
from nginy.errors import InvalidValueError, NginyError
from nginy.text.counts import counted
from nginy.text.escape import escape_control
from nginy.text.units import parse_duration_ms

STATES: Final = ("drain", "maint", "ready")
LONGEST_MS: Final = 300_000
"""The longest that nginy waits in one answer."""
CHANGE_S: Final = 5.0
"""How much longer a change may take than a question: it looks at the backend before and after."""
NOT_YET: Final = 2
"""The exit status if --wait gives up."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator wants a backend to do."""

    backend: str
    """As typed: upstream, slash, address."""
    values: Mapping[str, Any]
    wait: str | None = None
    """How long to wait for the end of its sessions, or for it to be usable."""


def drain(interface: Interface, wish: Wish) -> tuple[int, str]:
    """Carry out the wish; return exit status and text, or raise NginyError."""
    wait_ms = 0 if wish.wait is None else _duration_ms("--wait", wish.wait)
    if "for" in wish.values:
        _duration_ms("--for", wish.values["for"])
    upstream, slash, address = wish.backend.partition("/")
    if not slash or not address:
        raise NginyError(f'"{wish.backend}" is not a backend, expected UPSTREAM/ADDRESS')
    base = f"/api/v1/upstreams/{quote(upstream, safe='')}/backends"
    # A host name stands for addresses that only the running process knows.
    is_name = _is_name(interface, upstream, address)
    target = f"{base}?name=" if is_name else f"{base}/"
    change = Message("PATCH", target + quote(address, safe=""), wish.values, CHANGE_S)
    row = ask_json(interface, change)
    rows = row["backends"] if is_name else [row]
    lines = [*(_line(upstream, each) for each in rows), *_late(row)]
    if wish.wait is None:
        return 0, "\n".join(lines)
    what = "usable" if wish.values.get("state") == "ready" else "idle"
    status = 0
    deadline_s = time.monotonic() + wait_ms / 1000
    for each in rows:
        found = _wait(interface, f"{base}/{quote(each['address'], safe='')}", what, deadline_s)
        lines.append(_line(upstream, found))
        if not found[what]:
            status = NOT_YET
    return status, "\n".join(lines)


def _wait(interface: Interface, target: str, what: str, deadline_s: float) -> Any:
    """Return the state of a backend once it is as wished, or at the deadline."""
    while True:
        left_ms = max(round((deadline_s - time.monotonic()) * 1000), 0)
        step_ms = min(left_ms, LONGEST_MS)
        query = f"wait={what}&timeout={step_ms}ms"
        message = Message("GET", f"{target}?{query}", wait_s=step_ms / 1000)
        found = ask_json(interface, message)
        if found[what] or step_ms == left_ms:
            return found


def _is_name(interface: Interface, upstream: str, address: str) -> bool:
    """Whether a backend's address is a host name; raises NginyError if there is no such upstream.

    Without a configuration, the running process says so.
    """
    config = interface.config
    if config is None:
        target = f"/api/v1/upstreams/{quote(upstream, safe='')}/backends"
        query = f"?name={quote(address, safe='')}"
        rows = ask_json(interface, Message("GET", f"{target}{query}"))["backends"]
        return any(row["address"] != address for row in rows)
    if upstream not in config.upstreams:
        hint = did_you_mean(closest(upstream, config.upstreams))
        raise NginyError(f'{interface.name} has no upstream "{upstream}"{hint}')
    addresses = [each.address for each in config.upstreams[upstream].backends]
    found = [each for each in addresses if str(each) == address]
    return bool(found) and all(each.is_name for each in found)


def _duration_ms(option: str, text: str) -> int:
    try:
        return parse_duration_ms(text)
    except InvalidValueError:
        raise NginyError(f'{option} "{text}" is not a duration such as 30s or 5m') from None


def _late(answer: Mapping[str, Any]) -> list[str]:
    """Say which workers have not received a change yet."""
    late = answer.get("workers", {}).get("late")
    return [escape_control(f"not yet in {', '.join(late)}: no answer")] if late else []


def _line(upstream: str, row: Mapping[str, Any]) -> str:
    """Describe the current state of a backend."""
    weight = row["weight"]["now"]
    sessions = counted(row["conns"], "session")
    text = f"{upstream}/{row['address']}: {row['state']}, {sessions}, weight {weight}"
    if row["operator"] != row["state"]:
        text += f" (operator: {row['operator']}; {row['cause']}: {row['reason']})"
    return escape_control(text)
