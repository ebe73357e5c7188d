"""nginy.pyz: one file in an empty directory, run by a Python that has no package installed."""

import ast
import os
import pathlib
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import zipfile

import pytest

from kit.program import CHECKOUT, ENVIRONMENT, PATIENCE_S, Nginy, free_port, own_host, wait_until

BARE_PYTHON = (sys.executable, "-S", "-E")
"""A Python that looks for no package and into no variable."""
SIZE_MAX_BYTES = 1_200_000
WORKERS = pytest.mark.parametrize("workers", [1, 2])


def build(path: pathlib.Path, checkout: pathlib.Path = CHECKOUT) -> pathlib.Path:
    command = [sys.executable, str(checkout / "bin" / "pyz"), "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return build(tmp_path_factory.mktemp("build") / "nginy.pyz")


@pytest.fixture
def pyz(built: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """The file by itself in a directory."""
    path = tmp_path / "alone" / "nginy.pyz"
    path.parent.mkdir()
    shutil.copy(built, path)
    return path


def run(*command: str) -> tuple[int, str, str]:
    """Run a command until it ends, with nothing in the environment but PATH."""
    done = subprocess.run(
        command,
        cwd="/",
        env={"PATH": ENVIRONMENT["PATH"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def ask(host: str, port: int) -> bytes:
    with socket.create_connection((host, port), timeout=PATIENCE_S) as client:
        return b"".join(iter(lambda: client.recv(100), b""))


# What is built.


def test_the_same_sources_make_the_same_bytes(built: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(CHECKOUT / "LICENSE", copy)  # with times of now, and other modes
    for name in ("bin", "nginy"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / name, copy / name, ignore=ignored, copy_function=shutil.copy)
    (copy / "nginy" / "errors.py").chmod(0o600)
    assert build(tmp_path / "again.pyz", copy).read_bytes() == built.read_bytes()
    assert os.listdir(built.parent) == ["nginy.pyz"]


def test_it_holds_all_that_is_needed_and_is_small(built: pathlib.Path) -> None:
    assert built.stat().st_size < SIZE_MAX_BYTES
    assert os.access(built, os.X_OK)
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
        licenses = archive.read("LICENSES").decode()
    assert names == sorted(names)
    assert {"docopt.py", "yaml/__init__.py", "nginy/cli.py"} < set(names)
    assert not [name for name in names if not name.endswith(".py") and name != "LICENSES"]
    assert all(owner in licenses for owner in ("Ingy döt Net", "Keleshev", "Redistribution"))


def test_an_old_python_can_read_that_it_is_too_old() -> None:
    main = runpy.run_path(str(CHECKOUT / "bin" / "pyz"))["MAIN"]
    ast.parse(main, feature_version=(3, 6))


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "missing" / "nginy.pyz"
    status, _, errors = run(sys.executable, str(CHECKOUT / "bin" / "pyz"), "-o", str(path))
    assert status == 1
    assert errors == f"bin/pyz: {path} not written (No such file or directory)\n"


# What it does.


@pytest.mark.parametrize("flags", [["-S", "-E"], ["-I", "-S"]])
def test_it_needs_nothing_but_python(pyz: pathlib.Path, flags: list[str]) -> None:
    status, _, errors = run(sys.executable, *flags, str(pyz), "-V")
    assert status == 0
    assert "PyYAML " in errors
    assert "libyaml" not in errors
    assert os.listdir(pyz.parent) == ["nginy.pyz"]


def test_its_own_packages_come_before_those_of_python(pyz: pathlib.Path) -> None:
    status, _, errors = run(sys.executable, str(pyz), "-V")
    assert status == 0
    assert "libyaml" not in errors


def test_it_runs_by_its_own_first_line(pyz: pathlib.Path) -> None:
    status, output, _ = run(str(pyz), "--help-config")
    assert status == 0
    assert output.startswith("# The configuration of nginy\n")


def test_it_checks_a_configuration(pyz: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "nginy.yml"
    path.write_text("listeners: {listen: 127.0.0.1:0, retrun: hello}\n")
    status, _, errors = run(*BARE_PYTHON, str(pyz), "-t", str(path))
    assert status == 1
    assert 'unknown key "retrun" in a listener (did you mean "return"?)' in errors


@WORKERS
def test_it_serves_and_reloads(pyz: pathlib.Path, tmp_path: pathlib.Path, workers: int) -> None:
    host = own_host()
    port = free_port(host)
    text = f"workers: {workers}\nlisteners: {{listen: '{host}:{port}', return: %s}}\n"
    program = (*BARE_PYTHON, str(pyz))
    with Nginy(tmp_path, text % "old", program=program) as nginy:
        assert ask(host, port) == b"old"
        nginy.write(text % "new")
        status, output, errors = run(*program, "-s", "reload", str(nginy.path))
        assert (status, errors) == (0, "")
        assert f"listener {host}:{port}" in output
        assert ask(host, port) == b"new"
        nginy.stop(signal.SIGQUIT)


@WORKERS
def test_a_newer_file_under_its_name_takes_over(
    pyz: pathlib.Path, tmp_path: pathlib.Path, workers: int
) -> None:
    host = own_host()
    port = free_port(host)
    text = f"workers: {workers}\nlisteners: {{listen: '{host}:{port}', return: hello}}\n"
    with Nginy(tmp_path, text, program=(*BARE_PYTHON, str(pyz))) as nginy:
        newer = pyz.with_name("newer")
        with zipfile.ZipFile(pyz) as old, zipfile.ZipFile(newer, "w") as new:
            for name in old.namelist():  # stored, so that every module is at another place
                text = old.read(name).decode()
                new.writestr(name, text.replace('__version__ = "', '__version__ = "newer-'))
        newer.replace(pyz)
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded")
        nginy.send_signal(signal.SIGUSR2)
        nginy.said("nginy/newer-.* serving with")
        successor = nginy.pid
        try:
            nginy.send_signal(signal.SIGQUIT)
            wait_until(lambda: nginy.process.poll() is not None, "the end of the old one")
            assert ask(host, port) == b"hello"
        finally:
            os.kill(successor, signal.SIGTERM)
        nginy.wait()


END_TO_END = ("clients", "graceful", "reload", "start", "systemd", "upgrade", "workers")


@pytest.mark.real
@pytest.mark.timeout(140)
@pytest.mark.parametrize("name", END_TO_END)
def test_the_tests_of_the_whole_program_pass_with_it(pyz: pathlib.Path, name: str) -> None:
    program = [*BARE_PYTHON, "-X", "faulthandler", str(pyz)]  # -E hides what the unit sets
    path = CHECKOUT / "tests" / "run" / f"test_{name}.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
        cwd=CHECKOUT,
        env={**ENVIRONMENT, "NGINY_PROGRAM": shlex.join(program)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=130,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
