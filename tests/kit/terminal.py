"""A terminal for programs that draw: tmux, whose windows have any size and can be read."""

import os
import pathlib
import subprocess
from collections.abc import Callable

from kit.program import PATIENCE_S, needs
from kit.waiting import comes_true


class Terminal:
    """A window of a tmux of its own. Leaving the `with` block ends it and its program."""

    def __init__(
        self, directory: pathlib.Path, command: str, width: int, height: int, **variables: str
    ) -> None:
        """Run a command line of sh."""
        self._program = needs("tmux", "tmux")
        self._socket = str(directory / "tmux")
        environment = {k: v for k, v in os.environ.items() if k not in ("TMUX", "NO_COLOR")}
        self._environment = {**environment, "LC_ALL": "C.UTF-8", **variables}
        size = ("-x", str(width), "-y", str(height))
        self.tmux("new-session", "-d", *size, command)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.tmux("kill-server")

    def tmux(self, *arguments: str) -> str:
        """Run a command of tmux; return what it prints."""
        done = subprocess.run(
            [self._program, "-S", self._socket, "-f", "/dev/null", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env=self._environment,
        )
        return done.stdout

    def press(self, *keys: str) -> None:
        """Press keys, by their names in tmux."""
        self.tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type letters."""
        self.tmux("send-keys", "-l", text)

    def resize(self, width: int, height: int) -> None:
        """Take another size."""
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    @property
    def text(self) -> str:
        """What stands on the screen."""
        return self.tmux("capture-pane", "-p")

    @property
    def colored(self) -> str:
        """The same with its escape sequences."""
        return self.tmux("capture-pane", "-p", "-e")

    def shows(self, *texts: str, instead_of: str = "") -> str:
        """Wait until the screen shows all texts, and none that it should not; return it."""
        seen = ""

        def is_there() -> bool:
            nonlocal seen
            seen = self.text
            return all(text in seen for text in texts) and (
                not instead_of or instead_of not in seen
            )

        assert comes_true(is_there, PATIENCE_S), f"waited in vain for {texts} in\n{seen}"
        return seen

    def becomes(self, condition: Callable[[str], bool]) -> str:
        """Wait until a condition holds for the screen; return it."""
        assert comes_true(lambda: condition(self.text), PATIENCE_S), self.text
        return self.text
