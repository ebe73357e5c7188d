"""The value of `proxy_bind`: where connections to backends come from.

Not here: how a session fills in a text with variables (proxy/local_end.py).
"""

# ruff: noqa: RUF009 - key() makes a field, as dataclasses.field() does

import re
from dataclasses import dataclass
from typing import Final

from nginy.config.addresses import BindAddress
from nginy.config.node import Findings, Mark
from nginy.config.record import Entry, Record, Switch, key
from nginy.config.types import Flag, Plain, ScalarKind, Template
from nginy.errors import InvalidValueError
from nginy.proxy.variables import KEY_VARIABLES
from nginy.text.address import Address

PORT_WITHOUT_BRACKETS: Final = re.compile(r"(\$\w+):([^\]]*)")


class LocalAddress(ScalarKind[Address | str]):
    """An address, or a text with variables that gives one."""

    expected = f"{BindAddress.expected}, or a text such as $remote_addr"

    def __init__(self) -> None:
        self._constant = BindAddress()
        self._text = Template(KEY_VARIABLES)

    def parse(self, text: str, mark: Mark) -> Address | str:
        """Return the address, or the text as it is."""
        return self.parse_among(text, mark, Findings())

    def parse_among(self, text: str, mark: Mark, findings: Findings) -> Address | str:
        """Return the address, or a text that names only known variables."""
        if "$" not in text:
            return self._constant.parse(text, mark)
        found = PORT_WITHOUT_BRACKETS.fullmatch(text)
        if found is not None:
            raise InvalidValueError(
                "has a port after an address without brackets", f"[{found[1]}]:{found[2]}"
            )
        if re.search(r"\s", text):
            raise InvalidValueError("has a blank")
        return self._text.parse_among(text, mark, findings)

    def advice(self, key: str, text: str) -> str | None:
        """Explain nginx's words after the address."""
        return super().advice("proxy_bind", text)

    def write(self, value: Address | str) -> Plain:
        """Return the text, without a port of 0."""
        return value if isinstance(value, str) else self._constant.write(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyBind(Entry):
    """Where connections to backends come from."""

    address: Address | str = key(
        LocalAddress(),
        None,
        "An address, or a text with variables; where it is empty, the system chooses.",
    )
    transparent: bool = key(
        Flag(),
        "off",
        "The address need not be this machine's; needs CAP_NET_ADMIN, and routes for the answers.",
    )


PROXY_BIND: Final = Switch(Record(ProxyBind, "proxy_bind", shorthand="address"))
