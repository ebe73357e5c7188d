"""Formats on the wire: bytes in, values out.

Every module here knows one format and nothing else: the answers of name servers (`dns` and
`dns_names`), the files that stand in for them (`hosts`), a load agent's line (`agent`), the first
line of an HTTP answer (`http`), requests to the admin interface (`request`), and what a health
check sends and hopes to read (`expect`). `shown` goes the other way: bytes into text for a message.

There is no socket, no clock and no log here. `nginy.backend` and `nginy.proxy` decide who sends
these bytes, how long to wait, and what to do with a value.

The one idea: a parser gets bytes that may come from an enemy. It either returns a complete value,
or says that it needs more bytes where the format is a stream, or raises `errors.WireError`. It
raises nothing else, reads nothing outside the bytes it was given, and their number bounds its work.
"""
