"""Newcomers: backends that operators add while nginy runs, checked like those in the file.

Their keys come as JSON, and the table of the configuration reads them. So an added backend may have
every key that one in the file may have, and mistakes get the same messages. What the table cannot
know is checked against the configuration that runs, by the functions that check the file
(`config/checking/check.py` and `config/checking/loops.py`). A host name has to stand in the file:
its addresses come and go.

`admin/changes/adding.py` asks, and puts the backend into the book of changes.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from nginy.admin.changes.book import Book, Change, Newcomer
from nginy.backend.backend import BackendSettings
from nginy.backend.listing import AS_CONFIGURED, Listing
from nginy.commands.moving import moved_share
from nginy.commands.plan import BACKEND
from nginy.config.building import build
from nginy.config.checking.check import check_way
from nginy.config.checking.loops import OwnListeners, check_loops
from nginy.config.checking.targets import upstreams_of
from nginy.config.checking.upstreams import check_upstream
from nginy.config.load import HOMES
from nginy.config.node import Findings, MappingNode, Mark, Node, RefusedError, ScalarNode
from nginy.config.node import SequenceNode as List
from nginy.config.schema import Config
from nginy.config.upstream import Backend, Upstream
from nginy.text.address import Address

BODY: Final = Mark("body", 1, 1)
"""The place of mistakes: the lines of a JSON body are not worth naming."""


def newcomer(config: Config, listing: Listing, upstream: str, keys: Mapping[str, Any]) -> Newcomer:
    """Return the backend that has these keys, or what is wrong with it.

    `listing` is what operators have changed of the upstream before. With 10,000 backends this takes
    0.1 s, and a table of hashes 3 s, so a process that serves leaves it to a child.
    """
    findings = Findings(HOMES)
    try:
        made = BACKEND.read(_node(dict(keys)), findings)
    except RefusedError:
        return _refused(findings)
    if made.address.is_name and "address" not in made.origin.bad:
        text = "is a host name, expected an IP address or a unix socket; names go into the file"
        findings.report(BODY, f'address: "{made.address.name}" {text}')
    before = present(config.upstreams[upstream], listing)
    _check_presence(config.upstreams[upstream], before, made, findings)
    after = replace(before, backends=(*before.backends, made))
    check_upstream(after, findings)
    _check_ways(config, upstream, made, findings)
    if findings.problems:
        return _refused(findings)
    share = moved_share(before, after)
    return Newcomer(
        (),
        {name: BACKEND.keys[name].kind.write(_value(made, name)) for name in keys},
        build.backend_settings(made),
        None if share is None else round(100 * share, 1),
    )


def settings_of(keys: Mapping[str, Any]) -> BackendSettings:
    """Return the settings of a backend from keys that were valid once; raises ValueError."""
    return build.backend_settings(_known(keys))


def _known(keys: Mapping[str, Any]) -> Backend:
    findings = Findings(HOMES)
    with contextlib.suppress(RefusedError):
        made = BACKEND.read(_node(dict(keys)), findings)
        if not findings.problems:
            return made
    raise ValueError(findings.problems[0].text)


def misfits(config: Config, book: Book) -> list[tuple[Change, str]]:
    """Return the added backends that do not fit a configuration which has changed meanwhile, each
    with the reason.
    """
    found = []
    for change in book:
        upstream = config.upstreams.get(change.place[0])
        if change.settings is None or upstream is None:
            continue
        findings = Findings(HOMES)
        made = _known(change.keys)
        # One of the others is enough: it makes no difference to this one that there are thousands.
        others = [each for each in upstream.backends if not each.backup][:1]
        check_upstream(replace(upstream, backends=(*others, made)), findings)
        _check_ways(config, change.place[0], made, findings)
        if findings.problems:
            found.append((change, findings.problems[0].text))
    return found


def present(upstream: Upstream, listing: Listing) -> Upstream:
    """Return an upstream as it is now, with what operators have changed of its list."""
    if listing == AS_CONFIGURED:
        return upstream
    names = {each.address.name for each in upstream.backends}
    return replace(
        upstream,
        backends=(
            *(each for each in upstream.backends if each.address.name not in listing.removed),
            *(
                Backend(address=each.address, weight=each.weight, backup=each.backup)
                for each in listing.added
                if each.name not in names
            ),
        ),
    )


def _check_presence(file: Upstream, before: Upstream, made: Backend, findings: Findings) -> None:
    """Report an address that the upstream has already, or that an operator has removed from it."""
    if any(each.address == made.address for each in before.backends):
        findings.report(BODY, f"address: {made.address} is a backend of this upstream already")
    elif any(each.address == made.address for each in file.backends):
        text = "is in the file and was removed by an operator, expected that change to be undone"
        findings.report(BODY, f"address: {made.address} {text}")


def _value(backend: Backend, name: str) -> object:
    value: object = getattr(backend, BACKEND.keys[name].field)
    return value


def _check_ways(config: Config, upstream: str, made: Backend, findings: Findings) -> None:
    """Report why listeners that lead to the upstream cannot use the backend."""
    alone = replace(config.upstreams[upstream], backends=(made,))
    small = replace(config, upstreams={**config.upstreams, upstream: alone})
    leading = [each for each in config.listeners if upstream in upstreams_of(each)]
    for listener in leading:
        check_way(listener, small, findings)
    if _is_own(config, made.address):
        check_loops(small, findings)


def _is_own(config: Config, address: Address) -> bool:
    """Whether one of our listeners may receive what is sent there: few have its port, if any."""
    if address.offset is not None:
        return True
    own = OwnListeners(config)
    return any(own.find(protocol, address) is not None for protocol in ("tcp", "udp"))


def _node(value: object) -> Node:
    """Return a value of JSON as the reader of the configuration takes it."""
    if isinstance(value, dict):
        pairs = tuple((ScalarNode(str(name), BODY), _leaf(each)) for name, each in value.items())
        return MappingNode(pairs, BODY)
    return _leaf(value)


def _leaf(value: object) -> Node:
    """Return the value of a key; no key of a backend looks into a list or an object."""
    if isinstance(value, dict):
        return MappingNode((), BODY)
    if isinstance(value, list):
        return List((ScalarNode("", BODY),) if value else (), BODY)
    if isinstance(value, bool):
        return ScalarNode("on" if value else "off", BODY)
    if value is None:
        return ScalarNode("", BODY)
    return ScalarNode(str(value), BODY, is_plain=False)


def _refused(findings: Findings) -> Newcomer:
    # The label stands in front of each text, which is the key.
    problems = []
    for text in dict.fromkeys(problem.text for problem in findings.problems):
        key = text.partition(":")[0]
        problems.append({"key": key if key in BACKEND.keys else None, "text": text})
    return Newcomer(tuple(problems))
