"""The front: the terminal. Draws the screen with curses, and turns what is typed into keys.

One loop waits for keys, for the next answer, for a new size of the terminal, and for the time of
the next round. Where curses cannot draw (a dumb terminal, a pipe, a Python without it), it prints
the text of `nginy status` at each interval instead.

Tested in tests/run/test_admin_top.py.
"""

import contextlib
import locale
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import Final

from nginy.commands.running.interface import Interface
from nginy.commands.running.status import status
from nginy.commands.top.cells import ASCII, UNICODE, Glyphs, width_of
from nginy.commands.top.feed import Feed
from nginy.commands.top.screen import Size, Span, body_height, draw
from nginy.commands.top.state import Action, State, press, settle
from nginy.commands.top.tables import Line, lines
from nginy.errors import NginyError

try:
    import curses
except ImportError:  # some Pythons are built without it
    curses = None  # type: ignore[assignment]

ESCAPE_MS: Final = 25
"""How long to wait after an Escape for the rest of a key's bytes."""
WAIT_MAX_S: Final = 3600.0
NAMES: Final = {
    "KEY_UP": "up",
    "KEY_DOWN": "down",
    "KEY_PPAGE": "pgup",
    "KEY_NPAGE": "pgdn",
    "KEY_HOME": "home",
    "KEY_END": "end",
    "KEY_ENTER": "enter",
    "KEY_BACKSPACE": "backspace",
    "KEY_F(1)": "f1",
}
"""Keys that send more than a letter, by their names in curses."""
LETTERS: Final = {
    "\n": "enter",
    "\r": "enter",
    "\x1b": "esc",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x03": "ctrl-c",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options after the command."""

    interval_s: float = 1.0
    is_ascii: bool = False


def parse_wishes(interval: str | None, *, is_ascii: bool) -> Wishes:
    """Return the options with checked values; raises NginyError."""
    if interval is None:
        return Wishes(is_ascii=is_ascii)
    try:
        interval_s = float(interval.removesuffix("s"))
    except ValueError:
        interval_s = 0.0
    if not 0.1 <= interval_s <= 3600:
        raise NginyError(f'-d "{interval}" is not a number of seconds from 0.1 to 3600')
    return Wishes(interval_s, is_ascii)


def top(interface: Interface, wishes: Wishes) -> Iterator[str]:
    """Show what nginy does until q is typed; yield what to print where curses cannot draw.

    Raises NginyError if nginy does not answer at first.
    """
    _, text = status(interface, is_json=False, is_check=False)
    if not can_draw():
        yield from _plain(interface, wishes, text)
        return
    locale.setlocale(locale.LC_ALL, "")
    is_ascii = wishes.is_ascii or locale.nl_langinfo(locale.CODESET).upper() != "UTF-8"
    state = State(interface.may_change, wishes.interval_s)
    feed = Feed(interface)
    curses.set_escdelay(ESCAPE_MS)
    with _waking() as wakeups, contextlib.closing(feed), _screen() as window:
        Front(window, feed, is_ascii, wakeups).run(state)


def can_draw() -> bool:
    """Whether there is a terminal that curses can draw on."""
    if curses is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        curses.setupterm()
    except curses.error:
        return False
    return bool(curses.tigetstr("cup"))


def _plain(interface: Interface, wishes: Wishes, text: str) -> Iterator[str]:
    """Yield the status at each interval, as long as the output has a reader."""
    while True:
        yield f"{text}\n"
        time.sleep(wishes.interval_s)
        try:
            _, text = status(interface, is_json=False, is_check=False)
        except NginyError as error:
            text = str(error)


@contextlib.contextmanager
def _screen() -> Iterator["curses.window"]:
    """Take the terminal, and give it back: curses.wrapper, without its colors."""
    window = curses.initscr()
    try:
        with contextlib.suppress(curses.error):
            curses.noecho()
            curses.cbreak()
        window.keypad(True)
        if curses.has_colors() and not os.environ.get("NO_COLOR"):
            curses.start_color()
            curses.use_default_colors()
        yield window
    finally:
        # The terminal may be gone.
        for restore in (curses.nocbreak, curses.echo, curses.endwin):
            with contextlib.suppress(curses.error):
                restore()


def _ended(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


@contextlib.contextmanager
def _waking() -> Iterator[socket.socket]:
    """Let signals wake the loop: the yielded socket becomes readable."""
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.setblocking(False)
        writing.setblocking(False)
        before = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGWINCH, _nothing),
                (signal.SIGTERM, _ended),
                (signal.SIGHUP, _ended),
            )
        }
        descriptor = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, handler in before.items():
                signal.signal(number, handler)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Let the signal only wake the loop."""


class Front:
    """Draws, reads keys and waits, in one loop."""

    def __init__(
        self, window: "curses.window", feed: Feed, is_ascii: bool, wakeups: socket.socket
    ) -> None:
        self._window = window
        self._feed = feed
        self._wakeups = wakeups
        self._glyphs: Glyphs = ASCII if is_ascii else UNICODE
        self._attributes = self._styles()
        self._next_s = 0.0
        self._lines: list[Line] = []
        with contextlib.suppress(curses.error):
            curses.curs_set(0)
        window.nodelay(True)

    def _styles(self) -> dict[str, int]:
        """Return the attributes of all styles; without colors, words and shapes say it all."""
        found = {"head": curses.A_REVERSE, "bar": curses.A_BOLD, "bold": curses.A_BOLD}
        found["selected"] = curses.A_REVERSE
        found["dim"] = curses.A_DIM
        if os.environ.get("NO_COLOR") or not curses.has_colors():
            return found
        colors = {"good": "GREEN", "blue": "BLUE", "warn": "YELLOW", "bad": "RED"}
        for number, (style, color) in enumerate(colors.items(), 1):
            curses.init_pair(number, getattr(curses, f"COLOR_{color}"), -1)
            found[style] = curses.color_pair(number)
        return found

    def run(self, state: State) -> None:
        """Turn until q is typed, or the terminal is gone."""
        try:
            while True:
                now_s = time.monotonic()
                if now_s >= self._next_s and not state.is_paused and not self._feed.is_busy:
                    self._ask(state, now_s)
                state = self._show(state)
                if not self._wait(state):
                    return
                self._resize()
                self._feed.advance(time.monotonic())
                if self._feed.told:
                    state, self._feed.told = replace(state, told=self._feed.told), ""
                    self._act(state, Action("ask"))
                for key in self._keys():
                    size = self._size()
                    state, action = press(state, key, self._lines, body_height(state, size))
                    if action is not None and not self._act(state, action):
                        return
        except KeyboardInterrupt:
            return

    def _ask(self, state: State, now_s: float) -> None:
        line = self._lines[state.place] if state.place < len(self._lines) else None
        self._feed.begin(state, line, now_s)
        self._next_s = now_s + state.interval_s

    def _act(self, state: State, action: Action) -> bool:
        """Carry out an action; return False to end."""
        if action.kind == "quit":
            return False
        if action.message is not None:
            self._feed.send(action.message, time.monotonic())
        elif not state.is_paused or self._is_other(state):
            self._ask(state, time.monotonic())
        return True

    def _is_other(self, state: State) -> bool:
        """Whether the screen needs an answer even during a pause: another view, or details."""
        return self._feed.shot is None or self._feed.shot.view != state.view or state.has_details

    def _wait(self, state: State) -> bool:
        """Sleep until there is something to do; return False if the terminal is gone."""
        exchange = self._feed.exchange
        poll = select.poll()
        poll.register(sys.stdin, select.POLLIN)
        poll.register(self._wakeups, select.POLLIN)
        wait_s = max(self._next_s - time.monotonic(), 0.0)
        if exchange is not None:
            poll.register(exchange.socket, select.POLLOUT if exchange.is_sending else select.POLLIN)
            wait_s = 1.0  # lets `advance` see its deadline
        elif state.is_paused:
            wait_s = WAIT_MAX_S
        ready = dict(poll.poll(wait_s * 1000))
        # After a hang-up, poll() would return at once for ever.
        return not ready.get(sys.stdin.fileno(), 0) & (select.POLLHUP | select.POLLERR)

    def _resize(self) -> None:
        """Learn the new size of the terminal, if a signal announced one."""
        with contextlib.suppress(BlockingIOError):
            while self._wakeups.recv(64):
                size = os.get_terminal_size(sys.stdout.fileno())
                curses.resizeterm(size.lines, size.columns)
                self._window.clear()

    def _size(self) -> Size:
        height, width = self._window.getmaxyx()
        return Size(width, height)

    def _keys(self) -> Iterator[str]:
        """Yield the keys that have been typed."""
        while True:
            try:
                typed = self._window.get_wch()
            except curses.error:
                return
            if isinstance(typed, int):
                name = curses.keyname(typed).decode("ascii", "replace")
                if name in NAMES:
                    yield NAMES[name]
            else:
                yield LETTERS.get(typed, typed)

    def _show(self, state: State) -> State:
        """Draw; return the state with its cursor on a line that exists."""
        shot, size = self._feed.shot, self._size()
        if shot is None:
            screen: list[list[Span]] = [[(self._feed.trouble or "asking", "")]]
        else:
            if shot.view == state.view:
                self._lines = lines(shot, self._glyphs, state.order, state.wanted)
            else:
                self._lines = []
            state = settle(state, self._lines, body_height(state, size))
            screen = draw(shot, state, self._lines, size, self._glyphs, self._stale())
        self._window.erase()
        for row, spans in enumerate(screen[: size.height]):
            self._put(row, spans)
        self._window.refresh()
        return state

    def _stale(self) -> str:
        shot, trouble = self._feed.shot, self._feed.trouble
        if not trouble or shot is None:
            return ""
        age_s = time.monotonic() - shot.at_s
        at = time.strftime("%H:%M:%S", time.localtime(time.time() - age_s))
        return f"stale since {at}: {trouble}"

    def _put(self, row: int, spans: list[Span]) -> None:
        column = 0
        for text, style in spans:
            # Writing the last cell moves the cursor out of the window, which is an error.
            with contextlib.suppress(curses.error):
                self._window.addstr(row, column, text, self._attributes.get(style, 0))
            column += width_of(text)
