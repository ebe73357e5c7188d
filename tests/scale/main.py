"""The command line of bin/scale-out: runs proofs, and prints the results as tables or JSON."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Final

from scale.network import PROGRAMS
from scale.proofs import PROOFS, Numbers

INSIDE: Final = "NGINY_SCALE_OUT"
ALONE: Final = (
    *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh"),
)
"""Makes namespaces for us, so that all of it ends with this process, and the machine sees none."""
CANNOT: Final = 77

COLUMNS: Final = (
    *("connections", "failed", "lost", "turned away", "questions", "unanswered"),
    *("in vain, s", "silence, s"),
    *("changed backend", "flows", "moved", "moved to another backend", "handed over"),
)
"""Of the table; `etc/scale-out/README.md` says what they mean."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run proofs. Return 0, 1 if one could not be brought to its end, 77 if none can run here."""
    parser = _parser()
    options = parser.parse_args(argv)
    for name in options.proof:
        if name not in PROOFS:
            parser.error(f"'{name}' is none of {', '.join(PROOFS)}")
    if os.environ.get(INSIDE):
        return _run(options)
    reason = cannot(os.geteuid())
    if reason:
        print(reason, file=sys.stderr)
        return CANNOT
    typed = sys.argv[1:] if argv is None else argv
    command = [*ALONE, sys.executable, sys.argv[0], *typed]
    return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode


def cannot(uid: int) -> str:
    """Return why there can be no proof here, or nothing."""
    if uid != 0:
        return "the proofs make networks, which needs root"
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian package {package})"
    probe = "ip link add probe0 type veth peer name probe1 && ip nexthop show && nft list ruleset"
    done = subprocess.run([*ALONE, "sh", "-c", probe], capture_output=True, text=True, check=False)
    return f"networks cannot be made here: {done.stderr.strip()}" if done.returncode else ""


def _run(options: argparse.Namespace) -> int:
    results: dict[str, Numbers] = {}
    for name in options.proof or PROOFS:
        print(f"{name}: {PROOFS[name].__doc__}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir="/run") as path:
            try:
                results[name] = PROOFS[name](pathlib.Path(path))
            except (RuntimeError, OSError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                _show_logs(pathlib.Path(path))
                return 1
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        print(table(results))
    return 0


def table(results: Mapping[str, Numbers]) -> str:
    """Return the numbers as the README has them."""
    rows = [
        [name, *(_shown(numbers.get(column)) for column in COLUMNS)]
        for name, numbers in results.items()
    ]
    lines = [["proof", *COLUMNS], ["---", *("--:" for _ in COLUMNS)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _show_logs(directory: pathlib.Path) -> None:
    for path in sorted(directory.rglob("*.log")):
        for line in path.read_text().splitlines()[-20:]:
            print(f"{path.relative_to(directory)}: {line}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/scale-out",
        description="Prove in network namespaces what etc/scale-out/README.md says.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("proof", nargs="*", help=f"{', '.join(PROOFS)}; all if none is named")
    return parser
