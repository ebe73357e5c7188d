"""The exceptions of the wire layer: `WireError`, and one special case of it.

Errors that a user sees as such (a bad configuration file) are in `nginy.errors`; what the network
does to a connection is a value in `nginy.event`, never an exception.

The one idea: a caller of any parser needs one `except`, and everything else that comes out of a
parser is a bug of ours.

Tested in tests/wire/test_dns.py.
"""


class WireError(ValueError):
    """Bytes, or a text to be made into bytes, break the rules of their format.

    The message is one clause without a final stop, fit for the end of a log line or of a
    configuration error. It holds no bytes of the message itself, so it is safe to print.
    """


class MalformedAnswerError(WireError):
    """The message answers the question, as its id says, but breaks the rules of its format."""
