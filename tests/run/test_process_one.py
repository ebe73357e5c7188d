"""nginy as process 1 of a container: orphans become its children, and it reaps them.

Here it is a subreaper (prctl(2)), which is process 1 to its own descendants.
"""

import os
import pathlib
import signal
import sys

import pytest

from kit.program import Nginy, free_port, own_host, wait_until

PR_SET_CHILD_SUBREAPER = 36

# Starts a process whose parent ends at once, then becomes what its arguments name.
PREFIX = f"""\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({PR_SET_CHILD_SUBREAPER}, 1, 0, 0, 0)
child = os.fork()
if not child:
    if not os.fork():
        signal.pause()
    os._exit(0)
os.waitpid(child, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def children_of(pid: int) -> list[int]:
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in text.split()]


@pytest.mark.parametrize("workers", [1, 2])
def test_orphans_are_buried(tmp_path: pathlib.Path, workers: int) -> None:
    host = own_host()
    listener = f"listeners: {{listen: '{host}:{free_port(host)}', return: hi}}\n"
    prefix = (sys.executable, "-c", PREFIX)
    with Nginy(tmp_path, f"workers: {workers}\n{listener}", prefix=prefix) as nginy:
        pid = nginy.process.pid
        orphan, *others = children_of(pid)
        assert len(others) == (workers if workers > 1 else 0)
        os.kill(orphan, signal.SIGKILL)
        wait_until(lambda: not pathlib.Path(f"/proc/{orphan}").exists(), "the orphan's burial")
        assert children_of(pid) == others
        nginy.stop()
