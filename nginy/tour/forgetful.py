"""The proxy of evented.py less one line: it does not post an event that stops at its quota.

It passes every quick trial. But epoll has reported the bytes that are left over, and reports each
change once. If nothing more comes from that side, those bytes are never read, and both sides wait
for ever. A second client in the queue waits as well, until a third one comes. A loop that asks for
the state instead (select(), poll(), epoll without EPOLLET) does not have this trap; what it pays
for that is in event/selector.py.

Tested in tests/tour/test_programs_live.py.
"""

import sys

from nginy.tour.evented import Event, Loop, main


class ForgetfulLoop(Loop):
    """A loop that trusts epoll to say it again."""

    def post(self, event: Event) -> None:
        """Do nothing."""


if __name__ == "__main__":
    main(ForgetfulLoop(), *sys.argv[1:])
