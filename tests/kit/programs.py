"""Another program than the one that runs, for an upgrade: nginy with one thing changed.

    program = OtherProgram(tmp_path)
    with Nginy(tmp_path, config, program=program.argv) as nginy:
        program.change(after="sys.exit(3)")  # and then upgrade

A running nginy starts its own command line anew, so rewriting the file that it names installs
another program. The running one has been read already, and does not change.
"""

import pathlib
import sys

from kit.program import CHECKOUT

TEXT = """
import os, sys
sys.path.insert(0, {checkout!r})
{before}
from nginy.__main__ import begin, run
begin()
{after}
sys.exit(run())
"""


class OtherProgram:
    """A file that starts nginy, and that can be changed."""

    def __init__(self, directory: pathlib.Path) -> None:
        (directory / "bin").mkdir()
        self.path = directory / "bin" / "nginy"
        self.argv = (sys.executable, str(self.path))
        self.change()

    def change(self, before: str = "", after: str = "") -> None:
        """Make later starts run these lines before, or after, they import nginy."""
        text = TEXT.format(checkout=str(CHECKOUT), before=before, after=after)
        other = self.path.with_suffix(".new")
        other.write_text(text)
        other.replace(self.path)
