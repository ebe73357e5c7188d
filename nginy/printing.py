"""How a command line prints: messages to standard error, as nginx does, answers to standard output.

Tested in tests/test_cli.py.
"""

import errno
import os
import sys

from nginy.errors import NginyError


def print_error(text: str) -> None:
    """Print a text to stderr as it is, without "nginy:"."""
    print(text, file=sys.stderr)


def tell(text: str) -> None:
    """Print a message to stderr."""
    print_error(f"nginy: {text}")


def show(text: str) -> int:
    """Print to stdout; return the exit status."""
    print_text(text)
    return 0


def print_text(text: str) -> bool:
    """Print to stdout; return False if the reader has closed it (`| head`, a terminal that is
    gone), which is no error."""
    try:
        print(text, end="" if text.endswith("\n") else "\n", flush=True)
    except OSError as error:
        # Python flushes stdout again at exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno not in (errno.EPIPE, errno.EIO):
            text = f"standard output cannot be written: {error.strerror}"
            raise NginyError(text) from None
        return False
    return True
