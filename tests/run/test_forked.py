"""An nginy that the tests have forked (`kit/starter.py`) is what a start would have made."""

import os
import pathlib
import re
import signal

from kit.faults import Site
from kit.program import PROGRAM, Nginy, run_once

FIELDS = "Name|Umask|Groups|Threads|NoNewPrivs|Sig(?:Pnd|Blk|Ign|Cgt)|ShdPnd|Cap..."
STATUS = re.compile(rf"^(?:{FIELDS}):.*", re.MULTILINE)
TIMES_AND_NUMBERS = re.compile(r"^\S+ \S+|\d+#\d+|PID \d+")


def look_at(nginy: Nginy) -> dict[str, object]:
    """Return what the system tells of a process."""
    pid = nginy.process.pid
    proc = pathlib.Path(f"/proc/{pid}")
    descriptors = sorted((int(path.name), os.readlink(path)) for path in (proc / "fd").iterdir())
    return {
        "arguments": (proc / "cmdline").read_bytes().rstrip(b"\0").split(b"\0"),
        "environment": (proc / "environ").read_bytes(),
        "directory": os.readlink(proc / "cwd"),
        "program": os.readlink(proc / "exe"),
        "descriptors": [(number, re.sub(r"\[.*", "", name)) for number, name in descriptors],
        "limits": (proc / "limits").read_text(),
        "status": STATUS.findall((proc / "status").read_text()),
        "session": (os.getsid(pid), os.getpgid(pid)),
    }


def test_others_cannot_tell_it_from_one_that_was_started(site: Site) -> None:
    config = f"listeners: {{listen: {site.address}, return: hello}}\n"
    seen = []
    for program in ([*PROGRAM], PROGRAM):
        nginy = site.run(config, program=program)
        seen.append(look_at(nginy))
        client = site.connect()
        assert client.recv(100) == b"hello"
        client.close()
        assert nginy.session()["bytes_sent"] == 5
        nginy.access_path.unlink()
        nginy.send_signal(signal.SIGTERM)
        seen[-1]["said"] = [TIMES_AND_NUMBERS.sub("", line) for line in nginy.wait()]
        seen[-1]["end"] = nginy.process.returncode
    assert type(nginy.process).__name__ == "Forked"
    assert seen[0] == seen[1]


def test_a_command_prints_the_same(site: Site) -> None:
    for arguments in (("-t", "/nowhere"), ("-V",), ("--man",), ("-s", "stop", "/dev/null"), ()):
        assert run_once(*arguments) == run_once(*arguments, prefix=["/usr/bin/env"])


def test_it_ends_as_its_signal_says(site: Site) -> None:
    nginy = site.run(f"listeners: {{listen: {site.address}, return: hello}}\n")
    nginy.process.kill()
    assert nginy.process.wait() == -signal.SIGKILL
    assert nginy.process.poll() == -signal.SIGKILL
    nginy.send_signal(signal.SIGTERM)  # nobody gets it
