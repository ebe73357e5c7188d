"""Loads a configuration file: joins, reads and checks it, and returns one Config.

load() applies nothing and keeps nothing between calls, so a reload can load a new file beside the
running configuration and throw it away.

Order matters twice: the names that `variables` defines are known before any text is read, and
values that listeners and upstreams inherit (`defaults`, `access_log`) are read first.

Not here: files and YAML (files.py, parse.py), types and the table (types.py, record.py,
schema.py), and checks that span keys (checking/check.py).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from nginy.config.checking.check import check, complete
from nginy.config.files import Files
from nginy.config.node import (
    Findings,
    MappingNode,
    Node,
    RefusedError,
    closest,
    describe,
    did_you_mean,
    quote,
)
from nginy.config.record import belongs, homes_of
from nginy.config.schema import CONFIG, DIRECTIVES, LISTENER, NOT_FOR_DEFAULTS, Config
from nginy.config.upstream import UPSTREAM
from nginy.config.variables import declare
from nginy.config.words import hints
from nginy.errors import ConfigError

# Which records have a key.
HOMES: Final = homes_of(CONFIG)


def load(path: str, environ: Mapping[str, str]) -> Config:
    """Return the checked configuration of the file `path` and the files it includes.

    `environ` fills in ${NAME}, and gives a service the directory of its pid file. Raise ConfigError
    with everything that is wrong.
    """
    findings = Findings(HOMES)
    try:
        config = _read_config(Files(environ, findings).load(path), findings)
    except RefusedError:
        raise ConfigError(findings.problems) from None
    if findings.problems:
        raise ConfigError(findings.problems)
    return _with_pid_file(config, environ)


def _with_pid_file(config: Config, environ: Mapping[str, str]) -> Config:
    """Set the pid file of a service, unless the configuration has one.

    `nginy -s reload` finds the process by it.
    """
    if "pid" in config.origin.keys:
        return config
    return replace(config, pid=service_pid_file(environ))


def service_pid_file(environ: Mapping[str, str]) -> str | None:
    """Return the pid file's path in the directory that a service manager has created
    (RUNTIME_DIRECTORY of systemd.exec(5)); None without one."""
    directory = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return os.path.join(directory, "nginy.pid") if directory else None


def _read_config(top: MappingNode, findings: Findings) -> Config:
    """Return the configuration; it is usable only if `findings` has no problems."""
    nodes = {name.text: value for name, value in top.pairs}
    if "variables" in nodes:
        findings.variables = declare(nodes["variables"])
    if "access_log" in nodes:  # listeners inherit it, unless `defaults` has one
        with findings.under("access_log"):
            log = LISTENER.keys["access_log"].kind.read(nodes["access_log"], findings)
            findings.inherited["access_log"] = log
    if "defaults" in nodes:
        with findings.under("defaults"):
            findings.inherited.update(_read_defaults(nodes["defaults"], findings))
    pairs = tuple(pair for pair in top.pairs if pair[0].text not in DIRECTIVES)
    config = CONFIG.read(MappingNode(pairs, top.mark), findings)
    config = complete(config, findings)
    check(config, findings)
    # Longer ones first: one may stand in another.
    environment = tuple(sorted(findings.environment, key=lambda each: (-len(each), each)))
    warnings = tuple(findings.warnings)
    origin = replace(config.origin, warnings=warnings, environment=environment)
    return replace(config, origin=origin)


def _read_defaults(node: Node, findings: Findings) -> dict[str, object]:
    """Return the values of `defaults` by key."""
    rows = {**UPSTREAM.keys, **LISTENER.keys}
    known = sorted(rows.keys() - NOT_FOR_DEFAULTS)
    if not isinstance(node, MappingNode):
        text = f"{describe(node)}, expected keys of listeners and upstreams"
        raise findings.refuse(node.mark, text)
    values: dict[str, object] = {}
    for name, value in node.pairs:
        if name.text in known:
            with findings.under(name.text):
                values[name.text] = rows[name.text].kind.read(value, findings)
        elif name.text in NOT_FOR_DEFAULTS:
            findings.report(
                name.mark,
                f"{name.text} cannot have a default, expected it in each listener or upstream",
            )
        else:
            hint = _default_hint(name.text, known)
            findings.report(name.mark, f"unknown key {quote(name.text)}{hint}")
    return values


def _default_hint(word: str, known: Sequence[str]) -> str:
    """Return the hint for a key that neither listeners nor upstreams have."""
    for record in (LISTENER, UPSTREAM):
        advice = hints.absent(record.noun, word)
        if advice is not None:
            return f": {advice}"
        name = hints.renamed(record.noun, word)
        if name in known:
            return did_you_mean(name)
    if word in HOMES:
        return f": it belongs {belongs(HOMES[word])}"
    return did_you_mean(closest(word, known))
