"""Formats on the wire: bytes in, values out.

Every module here knows one format and nothing else: the answers of name servers (`dns` and
`dns_names`), the files that stand in for them (`hosts`), a load agent's line (`agent`), the first
line of an HTTP answer (`http`), requests to the admin interface (`request`), and what a health
check sends and hopes to read (`expect`). `shown` goes the other way: bytes into text for a message.

There is no socket, no clock and no log here. Who sends these bytes, how long it waits and what it
does with a value is decided in `nginy.backend` and `nginy.proxy`.

The one idea: a parser is handed bytes that may come from an enemy. It either returns a complete
value, or says that more bytes are needed where the format is a stream, or raises
`errors.WireError`; it raises nothing else, reads nothing outside the bytes it was given, and its
work is bounded by their number.
"""
