"""A value of the configuration on one line, in YAML's flow style, as `nginy explain` shows it.

Tested in tests/commands/test_explain.py.
"""

from nginy.config.types import Plain


def flow(value: Plain) -> str:
    """Return a value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]" if len(value) != 1 else flow(value[0])
    return value or '""'
