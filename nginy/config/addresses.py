"""The kinds of addresses: to connect to, to connect from, and to listen on.

text/address.py parses the text of an address; here it becomes a value of the configuration. Only
`listen` needs thought: an item may be a range of ports, so reading yields a longer list than the
one in the file, and printing folds runs of ports together again.

Tested in tests/config/test_errors.py.
"""

from dataclasses import replace

from nginy.backend.names.resolver import DNS_PORT
from nginy.config.node import Findings, Mark, Node, ScalarNode
from nginy.config.record import ListOf
from nginy.config.types import Kind, Plain, ScalarKind
from nginy.errors import InvalidValueError
from nginy.text.address import Address, parse_bind_address, parse_listen, parse_peer


class PeerAddress(ScalarKind[Address]):
    """An address to connect to."""

    expected = (
        'an address and port such as 127.0.0.1:80, "[::1]:80" or web.internal:80, or unix:/path'
    )

    def parse(self, text: str, mark: Mark) -> Address:
        """Return the address or host name; checking/check.py decides whether it needs a port."""
        return parse_peer(text)

    def write(self, value: Address) -> Plain:
        """Return its text as configured, which hashing depends on."""
        return value.name


class NameServers(Kind[tuple[Address, ...]]):
    """Addresses of name servers, with DNS's port unless they have one; none for `auto`."""

    expected = "auto, or IP addresses such as 127.0.0.53"
    takes_lists = True

    def __init__(self) -> None:
        self.items = ListOf(NameServer())

    def read(self, node: Node, findings: Findings) -> tuple[Address, ...]:
        """Return the addresses in the order written."""
        if isinstance(node, ScalarNode) and node.text == "auto":
            return ()
        return self.items.read(node, findings)

    def write(self, value: tuple[Address, ...]) -> Plain:
        """Return a list, or the word."""
        return self.items.write(value) if value else "auto"


class BindAddress(ScalarKind[Address]):
    """A local IP address to connect from; without a port, the kernel chooses one."""

    expected = 'an IP address such as 127.0.0.2 or "[::1]"'

    def parse(self, text: str, mark: Mark) -> Address:
        """Return the address, with port 0 where none is given."""
        return parse_bind_address(text)

    def write(self, value: Address) -> Plain:
        """Return its text, without a port of 0."""
        return str(value) if value.port else value.host_text


class IpAddress(ScalarKind[str]):
    """An IP address by itself, in its shortest form."""

    expected = "an IP address such as 192.0.2.1 or 2001:db8::1"

    def parse(self, text: str, mark: Mark) -> str:
        """Return the address; a port is refused."""
        address = parse_bind_address(text)
        if address.port:
            raise InvalidValueError("has a port", address.host)
        return address.host

    def write(self, value: str) -> Plain:
        """Return the address itself."""
        return value


class NameServer(BindAddress):
    """The address of one name server."""

    expected = 'an IP address such as 127.0.0.53, or with a port 127.0.0.1:5353 or "[::1]:5353"'

    def parse(self, text: str, mark: Mark) -> Address:
        """Return the address, with port 53 where none is given."""
        address = super().parse(text, mark)
        return address if address.port else replace(address, port=DNS_PORT)


class ListenAddress(ScalarKind[tuple[Address, ...]]):
    """One item of `listen`: an address, or one address for each port of a range."""

    expected = 'an address such as 127.0.0.1:80, "[::1]:80", 127.0.0.1:8000-8010 or unix:/path'

    def parse(self, text: str, mark: Mark) -> tuple[Address, ...]:
        """Return the addresses in ascending order of ports."""
        return parse_listen(text)

    def write(self, value: tuple[Address, ...]) -> Plain:
        """Return the text of one run of ports."""
        first, last = value[0], value[-1]
        return str(first) if first == last else f"{first}-{last.port}"


class ListenAddresses(Kind[tuple[Address, ...]]):
    """All addresses of a listener."""

    def __init__(self) -> None:
        self.items = ListOf(ListenAddress())
        self.expected = self.items.expected

    def read(self, node: Node, findings: Findings) -> tuple[Address, ...]:
        """Return the addresses of all items, in the order written."""
        return tuple(address for run in self.items.read(node, findings) for address in run)

    def write(self, value: tuple[Address, ...]) -> Plain:
        """Return a list of addresses and ranges."""
        runs: list[tuple[Address, ...]] = []
        for address in value:
            if runs and _follows(runs[-1][-1], address):
                runs[-1] = (runs[-1][0], address)
            else:
                runs.append((address,))
        return self.items.write(tuple(runs))


def _follows(first: Address, second: Address) -> bool:
    """Return whether `second` is the next port of the same host."""
    return not first.is_unix and second == replace(first, port=first.port + 1)
