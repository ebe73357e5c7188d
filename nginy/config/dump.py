"""The way back: a checked configuration as YAML, every default filled in, for `nginy -T`.

What dump() writes loads to an equal Config. It shows what is in force, not what was typed:
included files are in place, `defaults` have reached whom they concern, the environment is filled
in, and an address in `proxy_pass` has the upstream that was made for it. Two configurations with
the same dump behave the same.
"""

from typing import Final

import yaml

from nginy.config.schema import CONFIG, Config
from nginy.config.types import Plain

# What our reader takes for something else unless it is in quotes.
_NEEDS_QUOTES: Final = frozenset({"", "~", "null", "<<"})
_ANY_WIDTH: Final = 1 << 20


def dump(config: Config) -> str:
    """Return `config` as YAML text in the order of the table."""
    text: str = yaml.serialize(
        _node(CONFIG.write(config)), Dumper=yaml.BaseDumper, allow_unicode=True, width=_ANY_WIDTH
    )
    return text


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
