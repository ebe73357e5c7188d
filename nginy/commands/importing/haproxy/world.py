"""What all readers of a haproxy.cfg share: its proxies, the document that they fill, the ledger.

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nginy.commands.importing.haproxy.ledger import Ledger
from nginy.commands.importing.haproxy.sections import Line, Proxy
from nginy.commands.importing.haproxy.servers import Server
from nginy.commands.importing.haproxy.tls import TlsDefaults, TlsReader
from nginy.commands.importing.haproxy.variables import Variables
from nginy.commands.importing.model import Block, Document, Files


@dataclass(slots=True)
class Settings:
    """What the global section says about all proxies."""

    tls: TlsDefaults = field(default_factory=TlsDefaults)
    logs: tuple[Line, ...] = ()
    spread_percent: int = 0
    max_sessions: int = 0


@dataclass(slots=True)
class Back:
    """A proxy with servers, and its upstream; None if it cannot serve anybody."""

    proxy: Proxy
    servers: Sequence[Server] = ()
    upstream: Block | None = None


@dataclass(slots=True)
class World:
    """All of a configuration."""

    document: Document
    ledger: Ledger
    files: Files
    settings: Settings
    variables: Variables
    tls: TlsReader
    backs: Mapping[str, Back] = field(default_factory=dict)
    """Backends in mode tcp, by name."""
    others: frozenset[str] = frozenset()
    """Backends in another mode."""
    tables: Mapping[str, Line] = field(default_factory=dict)
    """The stick-table of each proxy that has one."""
