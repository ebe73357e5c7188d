import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nginy.event.loop import Loop
from nginy.event.signals import SignalReceiver

Receive = Callable[[Callable[[signal.Signals], None]], SignalReceiver]


@pytest.fixture
def method() -> str:
    """A signal is a readable byte, and which selector says so makes no difference."""
    return "epoll"


@pytest.fixture
def receive(loop: Loop) -> Iterator[Receive]:
    """Return a function that opens a receiver of USR1 and USR2; it is closed in the end."""
    opened: list[SignalReceiver] = []

    def open_one(received: Callable[[signal.Signals], None]) -> SignalReceiver:
        signals = (signal.SIGUSR1, signal.SIGUSR2)
        opened.append(SignalReceiver(loop, signals, received))
        return opened[-1]

    before = [signal.getsignal(each) for each in (signal.SIGUSR1, signal.SIGUSR2)]
    yield open_one
    for receiver in opened:
        receiver.close()
    after = [signal.getsignal(each) for each in (signal.SIGUSR1, signal.SIGUSR2)]
    assert after == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_is_received_in_a_turn_of_the_loop(loop: Loop, receive: Receive) -> None:
    received: list[signal.Signals] = []
    receive(received.append)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert received == []
    loop.turn(0)
    assert received == [signal.SIGUSR1]


def test_signals_are_received_in_their_order(loop: Loop, receive: Receive) -> None:
    received: list[signal.Signals] = []
    receive(received.append)
    for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    loop.turn(0)
    assert received == [signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2]


def test_a_storm_of_signals_neither_blocks_nor_fails(loop: Loop, receive: Receive) -> None:
    received: list[signal.Signals] = []
    receive(received.append)
    for _ in range(1000):
        os.kill(os.getpid(), signal.SIGUSR1)
    loop.turn(0)
    assert received
    assert set(received) == {signal.SIGUSR1}


def test_a_signal_of_somebody_else_is_nobodys(loop: Loop, receive: Receive) -> None:
    received: list[signal.Signals] = []
    receive(received.append)
    before = signal.signal(signal.SIGWINCH, lambda _number, _frame: None)
    os.kill(os.getpid(), signal.SIGWINCH)
    loop.turn(0)
    signal.signal(signal.SIGWINCH, before)
    assert received == []


def test_a_bug_in_what_a_signal_does_does_not_make_deaf_to_the_next(
    loop: Loop, receive: Receive, expect_log: Any
) -> None:
    received: list[signal.Signals] = []

    def fail_once(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            raise ZeroDivisionError

    receive(fail_once)
    os.kill(os.getpid(), signal.SIGUSR1)
    with expect_log("bug in nginy", count=1):
        loop.turn(0)
    os.kill(os.getpid(), signal.SIGUSR2)
    loop.turn(0)
    assert received == [signal.SIGUSR1, signal.SIGUSR2]
