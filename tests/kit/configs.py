"""Configurations for tests: written to a file, loaded, and what is wrong with them as text.

assert refusals(tmp_path, "listeners: []") == ["nginy.yml:1:12: listeners: an empty list, ..."]
"""

import pathlib
import textwrap
from collections.abc import Mapping

import pytest
from nginy.config.load import load
from nginy.config.schema import Config
from nginy.errors import ConfigError

LISTENER = "listeners: {listen: 127.0.0.1:80, return: hello}\n"
"""The least that is a configuration; the last line of many a test's."""

NO_ENVIRONMENT: Mapping[str, str] = {}


def write(directory: pathlib.Path, text: str, name: str = "nginy.yml") -> str:
    """Write a file, its text without the test's indentation; return its path."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return str(path)


def loaded(
    directory: pathlib.Path, text: str, environ: Mapping[str, str] = NO_ENVIRONMENT
) -> Config:
    """Return what a file with this text is loaded as."""
    return load(write(directory, text), environ)


def refusals(
    directory: pathlib.Path, text: str, environ: Mapping[str, str] = NO_ENVIRONMENT
) -> list[str]:
    """Return the messages for a file with this text, paths counted from `directory`."""
    with pytest.raises(ConfigError) as caught:
        loaded(directory, text, environ)
    return messages(caught.value, directory)


def messages(error: ConfigError, directory: pathlib.Path) -> list[str]:
    """Return the lines of an error, paths counted from `directory`."""
    return str(error).replace(f"{directory}/", "").splitlines()
