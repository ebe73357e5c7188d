"""The README's lines for Debian, typed by root on a system that is thrown away.

The system is this one under an overlay (mount_namespaces(7), overlayfs), so the lines may write
where they like. Left out are what needs process 1 (systemctl) and what changes packages (apt): a
test whose packages are missing is skipped.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from kit.program import CHECKOUT, needs

README = (CHECKOUT / "README.md").read_text()
SECTION = README.partition("## Install it on Debian")[2].partition("\n## ")[0]
BLOCKS = [
    re.findall("^# (.*)$", each, re.M)
    for each in re.findall("^```\n(.*?)^```$", SECTION, re.M | re.S)
]
PACKAGES, VENV, PIPX, SERVICE, SOCKET, LOGS = BLOCKS
LEFT_OUT = ("apt ", "systemctl ", "curl ")
# A tmpfs, as an overlay cannot lie on another one; the checkout belongs to root, as a copy does.
PREPARE = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$1/root"
mount --rbind /dev "$1/root/dev"
mount -t proc proc "$1/root/proc"
mkdir -p "$1/root$2"
mount --bind "$2" "$1/root$2"
chown -R 0:0 "$1/root$2"
exec chroot "$1/root" /bin/bash -ec "cd '$2'; $3"
"""
Type = Callable[[str], str]

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


@pytest.fixture
def type_lines(tmp_path: pathlib.Path) -> Type:
    """Types lines as root in a system of their own, and returns what they print."""
    if os.geteuid():
        pytest.skip("only root can mount")
    needs("unshare", "util-linux")
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__")
    shutil.copytree(CHECKOUT, checkout, ignore=ignored)
    tmp_path.chmod(0o755)
    system = tmp_path / "system"
    system.mkdir()
    command = ["unshare", "--mount", "--pid", "--fork", "bash", "-c", PREPARE, "-"]
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    def type_them(lines: str) -> str:
        done = subprocess.run(
            [*command, str(system), str(checkout), lines],
            env={**os.environ, "PATH": path, "HOME": "/root"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    try:
        type_them("true")
    except AssertionError as error:
        pytest.skip(f"no overlay can be mounted: {error}")
    return type_them


def here(block: list[str]) -> str:
    return "\n".join(line for line in block if not line.startswith(LEFT_OUT))


def as_nobody(command: str) -> str:
    return f"setpriv --reuid=65534 --regid=65534 --clear-groups {command}"


CHECK = as_nobody("nginy -t /etc/nginy/nginy.yml")
PASSED = "nginy: configuration file /etc/nginy/nginy.yml test is successful\n"


def test_a_checkout_of_root_runs_with_debians_packages(type_lines: Type) -> None:
    if subprocess.call(
        ["/usr/bin/python3", "-c", "import yaml, docopt"], stderr=subprocess.DEVNULL
    ):
        pytest.skip("python3-yaml or python3-docopt is not installed")
    said = type_lines(
        f"rm -rf /opt/nginy /usr/local/bin/nginy\n{here(PACKAGES)}\n{here(SERVICE)}\n{CHECK}"
    )
    assert said.endswith(PASSED)


# A service as systemd makes one: a user of its own, who has /run/nginy; root comes from outside.
SERVED = f"""
echo 'listeners: {{listen: "unix:/run/nginy/s", return: hi}}' >/etc/nginy/nginy.yml
rm -rf /run/nginy && mkdir /run/nginy && chown 65534 /run/nginy
RUNTIME_DIRECTORY=/run/nginy {as_nobody("nginy /etc/nginy/nginy.yml")} 2>/dev/null &
until [ -e /run/nginy/nginy.pid.conf ]; do sleep 0.1; done
cd /etc/nginy
nginy status --check nginy.yml
nginy -s reload nginy.yml
nginy plan nginy.yml
kill %1
wait
"""


def test_root_commands_the_service_by_its_file_alone(type_lines: Type) -> None:
    if subprocess.call(
        ["/usr/bin/python3", "-c", "import yaml, docopt"], stderr=subprocess.DEVNULL
    ):
        pytest.skip("python3-yaml or python3-docopt is not installed")
    lines = f"rm -rf /opt/nginy /usr/local/bin/nginy\n{here(PACKAGES)}\n{here(SERVICE)}\n{SERVED}"
    said = type_lines(lines)
    unchanged = "= listener unix:/run/nginy/s unchanged\nnothing changes\n"
    assert said.endswith(f"ready\nnothing changes\n{unchanged}")


@pytest.mark.parametrize("block", [VENV, PIPX], ids=["venv", "pipx"])
def test_an_environment_has_the_command(type_lines: Type, block: list[str]) -> None:
    if block is PIPX:
        needs("pipx", "pipx")
    elif subprocess.call(["/usr/bin/python3", "-c", "import ensurepip"], stderr=subprocess.DEVNULL):
        pytest.skip("python3-venv is not installed")
    said = type_lines(
        f"rm -rf /opt/nginy /usr/local/bin/nginy\n{here(block)}\n{here(SERVICE)}\n{CHECK}"
    )
    assert said.endswith(PASSED)


def test_the_sockets_take_the_place_of_the_service() -> None:
    """systemd refuses to listen for a service that listens itself."""
    assert [re.findall(r"(\w+) --now (\S+)", line) for line in SOCKET] == [
        [("disable", "nginy")],
        [("enable", "nginy.socket")],
    ]


def test_systemd_takes_the_units(type_lines: Type) -> None:
    needs("systemd-analyze", "systemd")
    units = "/etc/systemd/system/nginy.service /etc/systemd/system/nginy.socket"
    command = f"ln -sf {sys.executable} /usr/local/bin/nginy"  # the unit wants it to be there
    assert type_lines(f"{here(SERVICE)}\n{command}\nsystemd-analyze verify --man=no {units}") == ""


def test_logrotate_takes_its_file(type_lines: Type) -> None:
    needs("logrotate", "logrotate")
    lines = "mkdir -p /var/log/nginy\necho line >/var/log/nginy/access.log\n"
    lines += "printf '#!/bin/sh\\necho \"$@\" >>/told\\n' >/usr/local/sbin/systemctl\n"
    lines += f"chmod +x /usr/local/sbin/systemctl\n{here(LOGS)}\n"
    lines += (
        "logrotate --force --state /tmp/state /etc/logrotate.d/nginy\nls /var/log/nginy\ncat /told"
    )
    told = "kill --signal=USR1 --kill-who=main nginy.service"
    assert type_lines(lines).splitlines() == ["access.log.1", told]
