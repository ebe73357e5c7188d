"""The reader of nginx.conf: `read` and `recognizes`, as the package above asks for them.

    syntax     words, quotes, comments, blocks
    table      every directive: what it becomes, or why it becomes nothing
    reading    the walk over files and blocks, with what the parts share
    ledger     the fate of each directive, while it is found out
    scope      the directives that hold for one server
    values     times, sizes, flags, texts with variables
    main_part, upstreams, servers, listens, proxying, ...    from directives to keys

Read first: table.py and reading.py.
"""

import re

from nginy.commands.importing.model import Files, Imported, refuse
from nginy.commands.importing.nginx.definitions import Definitions
from nginy.commands.importing.nginx.main_part import read_main
from nginy.commands.importing.nginx.reading import NO_HTTP, ConfReader
from nginy.commands.importing.nginx.resolvers import read_resolvers
from nginy.commands.importing.nginx.scope import named
from nginy.commands.importing.nginx.servers import read_servers
from nginy.commands.importing.nginx.upstreams import read_upstreams

_BLOCK = re.compile(r"(?m)^\s*(stream|http|events|mail|server|upstream\s+\S+)\s*\{")


def recognizes(text: str) -> bool:
    """Whether a text looks like an nginx.conf."""
    return _BLOCK.search(text) is not None


def read(path: str, files: Files) -> Imported:
    """Return what an nginx.conf says, and what became of each directive."""
    reading = ConfReader(files)
    main, end = reading.walk(path)
    streams = named(main, "stream")
    if not streams:
        others = [each for each in main if each.name in ("http", "mail") and each.block is not None]
        if others:
            text = f'there is only "{others[0].name}": {NO_HTTP}, expected stream {{ ... }}'
            raise refuse(others[0].file, others[0].line, text)
        raise refuse(path, 0, 'there is no "stream" in it, expected stream { ... }')
    end = [*(line for each in streams for line in each.end), *end]
    for each in streams:
        each.end = []
    read_main(reading, main)
    stream = [each for block in streams for each in block.block or ()]
    reading.definitions = Definitions(stream, reading.ledger)
    read_upstreams(reading, stream)
    read_servers(reading, stream)
    read_resolvers(reading, stream)
    reading.definitions.write(reading.document.variables)
    reading.document.end += end
    return Imported(reading.document, reading.ledger.entries())
