"""The way back: a checked configuration as YAML, every default filled in, for `nginy -T`.

What dump() writes loads to an equal Config. It shows what is in force, not what was typed:
included files are in place, `defaults` have reached whom they concern, the environment is filled
in, and an address in `proxy_pass` has the upstream that was made for it. Two configurations with
the same dump behave the same.
"""

import io
import re
from typing import Final

import yaml

from nginy.config.schema import CONFIG, Config
from nginy.config.types import Plain

# What our reader takes for something else unless it is in quotes.
_NEEDS_QUOTES: Final = frozenset({"", "~", "null", "<<"})
# An escaped backslash, or the escape of a lone surrogate that stands for a byte (PEP 383).
_SURROGATE: Final = re.compile(r"(\\\\)|\\uDC([89A-F][0-9A-F])")
_ANY_WIDTH: Final = 1 << 20


def dump(config: Config) -> str:
    """Return `config` as YAML text in the order of the table."""
    text: str = yaml.serialize(
        _node(CONFIG.write(config)), Dumper=_Dumper, allow_unicode=True, width=_ANY_WIDTH
    )
    return text


class _Dumper(yaml.BaseDumper):
    r"""PyYAML's emitter, which writes a lone surrogate as \xNN: the byte it stands for."""

    def write_double_quoted(self, text: str, split: bool = True) -> None:
        """Write a scalar in double quotes."""
        stream, self.stream = self.stream, io.StringIO()
        super().write_double_quoted(text, split)
        written, self.stream = self.stream.getvalue(), stream
        self.stream.write(_SURROGATE.sub(lambda m: m[1] or f"\\x{m[2]}", written))


def _node(value: Plain) -> yaml.Node:
    """Return PyYAML's node; nothing is quoted but what needs it, as BaseDumper guesses no types."""
    if isinstance(value, dict):
        pairs = [(_node(name), _node(item)) for name, item in value.items()]
        return yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=False)
    if isinstance(value, list):
        items = [_node(item) for item in value]
        return yaml.SequenceNode("tag:yaml.org,2002:seq", items, flow_style=False)
    style = '"' if value in _NEEDS_QUOTES or not value.isprintable() else None
    return yaml.ScalarNode("tag:yaml.org,2002:str", value, style=style)
