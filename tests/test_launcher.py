"""bin/nginy and bin/test as a newcomer starts them, on machines that lack this or that.

A checkout is imitated: the real launchers beside a package `nginy` that only says who runs it.
What a machine lacks is imitated by a sitecustomize module, which hides modules from the launcher,
and packages come from wheels made here, so that no test needs a network.
"""

import ast
import configparser
import os
import pathlib
import runpy
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import nginy
import pytest

CHECKOUT = pathlib.Path(nginy.__file__).parent.parent
BIN = CHECKOUT / "bin"
SAYS_WHO_RUNS = """
import os, sys
def main():
    import docopt, yaml
    print("nginy", os.getpid(), sys.prefix, *sys.argv[1:])
    return 3
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_checkout(tmp_path_factory.mktemp("checkout"))


def make_checkout(path: pathlib.Path) -> pathlib.Path:
    shutil.copytree(BIN, path / "bin", ignore=shutil.ignore_patterns("__pycache__"))
    (path / "nginy").mkdir()
    (path / "nginy" / "__init__.py").touch()
    shutil.copy(CHECKOUT / "nginy" / "__main__.py", path / "nginy")
    (path / "nginy" / "cli.py").write_text(SAYS_WHO_RUNS)
    return path


def environment(customize: str, directory: pathlib.Path, **extra: str) -> dict[str, str]:
    """The environment of a process for which `customize` is run before anything else."""
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text("import sys\n" + customize)
    return {**os.environ, "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1", **extra}


def without(*modules: str) -> str:
    return f"sys.modules.update(dict.fromkeys({modules}))"


def start(
    script: pathlib.Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [python, str(script), *arguments],
        cwd="/",
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    with process:
        out, err = process.communicate(timeout=90)
    return process.returncode, out, err


def run(script: pathlib.Path, *arguments: str, **options: object) -> tuple[int, str, str]:
    return finish(start(script, *arguments, **options))  # type: ignore[arg-type]


# -- what is there is used --


def test_it_runs_with_the_packages_that_are_there_and_installs_nothing(
    checkout: pathlib.Path,
) -> None:
    process = start(checkout / "bin" / "nginy", "-t", "x.yml")
    assert finish(process) == (3, f"nginy {process.pid} {sys.prefix} -t x.yml\n", "")
    assert not (checkout / ".venv").exists()


def test_it_runs_through_a_symbolic_link(checkout: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "balancer").symlink_to(checkout / "bin" / "nginy")
    status, out, err = run(tmp_path / "balancer")
    assert (status, out.split()[0], err) == (3, "nginy", "")


def test_it_ends_with_the_status_of_the_command_line(checkout: pathlib.Path) -> None:
    assert run(checkout / "bin" / "nginy")[0] == 3


@pytest.mark.slow
def test_bin_test_gives_its_arguments_to_pytest_from_any_directory() -> None:
    status, out, err = run(BIN / "test", "--collect-only", "-q", "tests/test_layers.py")
    assert (status, err) == (0, "")
    assert "tests/test_layers.py::test_modules_import_only_from_their_layers" in out


# -- which Python runs it --

# Packages that can be found, and a Python that is optimized only in the directory "second".
MADE_UP = """
import sys, sysconfig
sys.base_prefix = sys.prefix = "/opt"
found = "--enable-optimizations" if "/second/" in sys.executable else ""
sysconfig.get_config_var = lambda name: found
"""


@pytest.fixture
def two_pythons(tmp_path: pathlib.Path) -> dict[str, str]:
    """The environment of a process that finds two Pythons, the second of them optimized."""
    site = tmp_path / "site"
    env = environment(MADE_UP, site, PYTHONHOME=sys.base_prefix)
    for module in ("yaml", "docopt"):
        (site / f"{module}.py").touch()
    binary = pathlib.Path(sys.executable).resolve()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        shutil.copy(binary, tmp_path / name / "python3")
    return {**env, "PATH": f"{tmp_path}/first:{tmp_path}/second:{os.environ['PATH']}"}


def who_runs(command: Sequence[str | pathlib.Path], env: Mapping[str, str]) -> str:
    """Return the last directory of the Python that runs a command."""
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stderr) == (3, "")
    return pathlib.Path(done.stdout.split()[2]).parent.name


@pytest.fixture
def telling(checkout: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A launcher whose nginy says which Python runs it."""
    shutil.copytree(checkout, tmp_path / "telling")
    text = SAYS_WHO_RUNS.replace("sys.prefix", "sys.executable")
    (tmp_path / "telling" / "nginy" / "cli.py").write_text(text)
    return tmp_path / "telling" / "bin" / "nginy"


def test_an_optimized_python_is_preferred(
    telling: pathlib.Path, two_pythons: dict[str, str]
) -> None:
    assert who_runs([telling], two_pythons) == "second"


def test_a_python_that_was_chosen_stays(telling: pathlib.Path, two_pythons: dict[str, str]) -> None:
    assert who_runs(["python3", telling], two_pythons) == "first"


def test_an_optimized_python_without_the_packages_is_not_preferred(
    telling: pathlib.Path, two_pythons: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with open(tmp_path / "site" / "sitecustomize.py", "a") as file:
        file.write(f"if found: {without('yaml', 'docopt')}\n")
    assert who_runs([telling], two_pythons) == "first"


def fake_python(path: pathlib.Path, command: str) -> None:
    """Make a program that runs a command of the shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("name", ["nginy", "installed/nginy", "nginy.pyz"])
def test_signals_are_ignored_before_python_runs(
    checkout: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
    fake_python(tmp_path / "python3", "grep SigIgn: /proc/self/status")
    path = checkout / "bin" / name
    if name == "nginy.pyz":
        path.write_bytes(runpy.run_path(str(BIN / "pyz"))["BEGINNING"] + b"PK\0\0")
        path.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.check_output([path], env=env, text=True)
    ignored = int(said.split()[1], 16)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        assert ignored >> number - 1 & 1


def test_an_installed_command_finds_the_python_that_it_was_installed_for(
    tmp_path: pathlib.Path,
) -> None:
    """Beside itself, as in an environment; else by the name of the directory that has nginy."""
    for path in ("env/bin/python3", "path/python3", "path/python3.99"):
        fake_python(tmp_path / path, f'echo {path} "$@"')
    for directory in ("env", "local", "bare"):
        (tmp_path / directory / "bin").mkdir(parents=True, exist_ok=True)
        shutil.copy(BIN / "installed" / "nginy", tmp_path / directory / "bin")
    package = tmp_path / "local/lib/python3.99/site-packages/nginy"
    package.mkdir(parents=True)
    (package / "__main__.py").touch()
    (tmp_path / "link").symlink_to("env/bin/nginy")  # as pipx makes one
    env = {"PATH": f"{tmp_path / 'path'}:{os.environ['PATH']}"}
    for begun, python, script in (
        ("link", "env/bin/python3", "env/bin/nginy"),
        ("env/bin/nginy", "env/bin/python3", "env/bin/nginy"),
        ("local/bin/nginy", "path/python3.99", "local/bin/nginy"),
        ("bare/bin/nginy", "path/python3", "bare/bin/nginy"),
    ):
        said = subprocess.check_output([tmp_path / begun, "-t", "a b"], env=env, text=True)
        assert said == f"{python} {tmp_path / script} -t a b\n"


# -- a private environment --


def make_wheel(directory: pathlib.Path, package: str, module: str, code: str = "") -> None:
    """Write a wheel of the least that pip accepts: one module and its metadata."""
    info = f"{package}-1.dist-info"
    files = {
        f"{module}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(directory / f"{package}-1-py3-none-any.whl", "w") as wheel:
        for name, text in [*files.items(), (f"{info}/RECORD", record)]:
            wheel.writestr(name, text)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has nothing but the standard library."""
    path = tmp_path_factory.mktemp("bare") / "python"
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "venv", "--without-pip", path], check=True)
    return str(path / "bin" / "python")


COPYING_VENV = """
import shutil, sys
shutil.copytree({path!r}, sys.argv[1], symlinks=True)
"""


@pytest.fixture(scope="module")
def quick_venv(tmp_path_factory: pytest.TempPathFactory, bare_python: str) -> str:
    """A directory with a module `venv` that copies an environment with pip.

    To install pip, as Python's own does, takes most of the time for a private environment.
    """
    path = tmp_path_factory.mktemp("venv")
    subprocess.run([bare_python, "-m", "venv", path / "kept"], check=True)
    (path / "venv.py").write_text(COPYING_VENV.format(path=str(path / "kept")))
    return str(path)


def offline(directory: pathlib.Path, python_path: str = "") -> dict[str, str]:
    """The environment of a process whose pip finds the wheels in `directory`, and no network."""
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(directory), "PIP_CONFIG_FILE": os.devnull}
    return {**os.environ, **pip, "PYTHONPATH": python_path}


@dataclass
class Installing:
    """Launchers that have been started in a checkout, and make an environment in it."""

    checkout: pathlib.Path
    env: Mapping[str, str]
    processes: list["subprocess.Popen[str]"]


def begin_two_starts(directory: pathlib.Path, python: str, python_path: str) -> Installing:
    checkout = make_checkout(directory / "checkout")
    (checkout / ".venv" / ".new-1" / "left by an interrupted start").mkdir(parents=True)
    make_wheel(directory, "PyYAML", "yaml")
    make_wheel(directory, "docopt", "docopt")
    script, env = checkout / "bin" / "nginy", offline(directory, python_path)
    return Installing(checkout, env, [start(script, env=env, python=python) for _ in range(2)])


def begin_with_a_damaged_environment_and_no_wheel(
    directory: pathlib.Path, python: str, python_path: str
) -> Installing:
    checkout = make_checkout(directory / "checkout")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = checkout / ".venv" / f"run-{version}"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to("/nonexistent/python")
    env = offline(directory / "empty", python_path)
    return Installing(checkout, env, [start(checkout / "bin" / "nginy", env=env, python=python)])


def begin_in_a_checkout_of_somebody_else(
    directory: pathlib.Path, python: str, python_path: str
) -> Installing:
    checkout = make_checkout(directory / "checkout")
    (checkout / ".venv").touch()  # as root every directory can be written, but not in a file
    make_wheel(directory, "PyYAML", "yaml")
    make_wheel(directory, "docopt", "docopt")
    env = {**offline(directory, python_path), "XDG_CACHE_HOME": str(directory / "cache")}
    return Installing(checkout, env, [start(checkout / "bin" / "nginy", env=env, python=python)])


def begin_tests_without_an_optional_wheel(
    directory: pathlib.Path, python: str, python_path: str
) -> Installing:
    checkout = make_checkout(directory / "checkout")
    for package, module in (("PyYAML", "yaml"), ("docopt", "docopt")):
        make_wheel(directory, package, module)
    make_wheel(directory, "pytest", "pytest", "import sys; print('pytest runs', *sys.argv[1:])")
    script, env = checkout / "bin" / "test", offline(directory, python_path)
    return Installing(checkout, env, [start(script, "-q", env=env, python=python)])


BEGIN = (
    begin_two_starts,
    begin_with_a_damaged_environment_and_no_wheel,
    begin_in_a_checkout_of_somebody_else,
    begin_tests_without_an_optional_wheel,
)


@pytest.fixture(scope="module")
def begun(
    tmp_path_factory: pytest.TempPathFactory, bare_python: str, quick_venv: str
) -> Iterator[dict[Callable[..., Installing], Installing]]:
    """All installations, begun together. The first makes a whole environment, pip and all."""
    made = {
        begin: begin(tmp_path_factory.mktemp("begun"), bare_python, quick_venv if made else "")
        for made, begin in enumerate(BEGIN)
    }
    yield dict(made)
    for installing in made.values():
        for process in installing.processes:
            with process:
                process.kill()


@pytest.mark.slow
@pytest.mark.timeout(100)
def test_two_starts_at_once_make_one_private_environment_and_run_in_it(
    begun: dict[object, Installing], bare_python: str
) -> None:
    two = begun[begin_two_starts]
    checkout, processes = two.checkout, two.processes
    results = [finish(process) for process in processes]
    [home] = (checkout / ".venv").glob("run-*")
    assert [out for _, out, _ in results] == [f"nginy {p.pid} {home}\n" for p in processes]
    said = "".join(err for _, _, err in results)
    assert said == f"nginy: installing PyYAML, docopt in {home}, once\n"
    assert not list((checkout / ".venv").glob(".new-*"))
    again = run(checkout / "bin" / "nginy", env=two.env, python=bare_python)
    assert again[2] == ""  # once


@pytest.mark.slow
@pytest.mark.timeout(100)
def test_a_damaged_environment_is_not_used_and_without_a_network_one_command_helps(
    begun: dict[object, Installing], bare_python: str
) -> None:
    (process,) = begun[begin_with_a_damaged_environment_and_no_wheel].processes
    status, out, err = finish(process)
    assert (status, out) == (1, "")
    assert "Traceback" not in err
    assert "PyYAML and docopt not found; no private environment: pip failed" in err
    assert err.splitlines()[-1].strip() == f"{bare_python} -m pip install PyYAML docopt"


@pytest.mark.slow
@pytest.mark.timeout(100)
def test_a_checkout_of_somebody_else_has_its_environment_in_the_cache_of_the_user(
    begun: dict[object, Installing], bare_python: str
) -> None:
    installing = begun[begin_in_a_checkout_of_somebody_else]
    (process,) = installing.processes
    status, out, err = finish(process)
    [home] = (installing.checkout.parent / "cache" / "nginy").glob("run-*")
    assert (status, out) == (3, f"nginy {process.pid} {home}\n")
    assert err == f"nginy: installing PyYAML, docopt in {home}, once\n"
    again = run(installing.checkout / "bin" / "nginy", env=installing.env, python=bare_python)
    assert again[2] == ""  # once


@pytest.mark.slow
@pytest.mark.timeout(100)
def test_tests_go_on_without_a_package_that_only_some_of_them_need(
    begun: dict[object, Installing],
) -> None:
    (process,) = begun[begin_tests_without_an_optional_wheel].processes
    status, out, err = finish(process)
    assert (status, out) == (0, "pytest runs -q\n"), err
    first, second = err.splitlines()
    assert first.startswith("nginy: installing PyYAML, docopt, pytest, aioquic in ")
    assert second.startswith("nginy: going on without aioquic: pip failed (")


def test_ctrl_c_while_installing_ends_without_a_traceback(
    tmp_path: pathlib.Path, bare_python: str
) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    process = start(checkout / "bin" / "nginy", env=offline(tmp_path), python=bare_python)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("nginy: installing")
    process.send_signal(2)
    assert finish(process) == (130, "", "")
    assert not list((checkout / ".venv").glob("*-*"))


# -- where no environment can be made --


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without(module: str, checkout: pathlib.Path, tmp_path: pathlib.Path) -> None:
    env = environment(without("yaml", "docopt", module), tmp_path)
    status, out, err = run(checkout / "bin" / "nginy", env=env)
    assert (status, out) == (1, "")
    assert err == (
        f"nginy: PyYAML and docopt not found; no private environment: "
        f"{sys.executable} has no module {module}. Type\n"
        f"    {sys.executable} -m pip install PyYAML docopt\n"
    )


def test_a_checkout_and_a_cache_that_cannot_be_written(tmp_path: pathlib.Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    (checkout / ".venv").touch()  # as root every directory can be written, but not in a file
    env = environment(without("docopt"), tmp_path / "site", XDG_CACHE_HOME="/dev/null")
    status, out, err = run(checkout / "bin" / "nginy", env=env)
    assert (status, out) == (1, "")
    assert "docopt not found; no private environment: [Errno " in err
    assert err.endswith(f"    {sys.executable} -m pip install docopt\n")


def test_an_environment_that_does_not_help_is_not_entered_for_ever(tmp_path: pathlib.Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = checkout / ".venv" / f"run-{version}"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    for module in ("yaml", "docopt"):
        (home / "lib" / f"python{version}" / "site-packages" / f"{module}.py").touch()
    env = environment(without("yaml"), tmp_path / "site")  # in the environment as well
    status, _, err = run(checkout / "bin" / "nginy", env=env)
    assert status == 1
    assert f"{home} is damaged; remove it" in err


@pytest.mark.skipif(
    not os.access("/usr/bin/python3", os.X_OK)
    or subprocess.call(
        ["/usr/bin/python3", "-c", "import sys; sys.exit(sys.version_info < (3, 10))"]
    )
    != 0,
    reason="/usr/bin/python3 is not there or older than 3.10",
)
@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("apt-get", "apt install python3-yaml python3-docopt"),
        ("dnf", "dnf install python3-pyyaml python3-docopt"),
        ("apk", "apk add py3-yaml py3-docopt"),
    ],
)
def test_a_system_python_is_helped_by_the_package_manager_of_the_system(
    program: str, command: str, checkout: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    make_program(tmp_path / program, "exit 1")
    site = tmp_path / "site"
    env = environment(without("yaml", "docopt", "venv"), site, PATH=str(tmp_path))
    _, _, err = run(checkout / "bin" / "nginy", env=env, python="/usr/bin/python3")
    assert err.splitlines()[-1].strip() == command


def make_program(path: pathlib.Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


# -- old Pythons --

AS_OLD_PYTHON = "sys.version_info = (3, 9, 18, 'final', 0)"


def test_an_old_python_gives_way_to_a_newer_one_that_works(
    checkout: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    make_program(tmp_path / "python3.13", "exit 127")  # a version manager's, for another version
    make_program(tmp_path / "python3.12", 'test "$1" = -c || echo 3.12 runs "$@"')
    env = environment(AS_OLD_PYTHON, tmp_path / "site", PATH=str(tmp_path))
    script = checkout / "bin" / "nginy"
    assert run(script, "-t", env=env) == (0, f"3.12 runs {script} -t\n", "")


def test_an_old_python_alone_is_told_so_in_one_sentence(
    checkout: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    env = environment(AS_OLD_PYTHON, tmp_path / "site", PATH=str(tmp_path))
    status, out, err = run(checkout / "bin" / "nginy", env=env)
    assert (status, out) == (1, "")
    assert err == (
        f"nginy: Python 3.10 or newer is needed; {sys.executable} is 3.9.18, no other found\n"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("bin/bootstrap.py", "bin/nginy", "bin/installed/nginy", "bin/test"),
        *("nginy/__init__.py", "nginy/__main__.py"),
    ],
)
def test_the_launchers_compile_on_old_pythons(name: str) -> None:
    ast.parse((CHECKOUT / name).read_text(), feature_version=(3, 6))


# -- one list of packages --


def names(requirements: str) -> list[str]:
    """The packages of requirements such as "PyYAML>=5.4", a line each."""
    return [requirement.partition(">=")[0] for requirement in requirements.split()]


def test_the_launchers_need_what_the_package_declares() -> None:
    setup = configparser.RawConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    declared_run = names(setup["options"]["install_requires"])
    declared_test = names(setup["options.extras_require"]["test"])
    code = f"import sys; sys.path[0] = {str(BIN)!r}; from bootstrap import *; "
    code += "print([*RUN.values()], [*TEST.values()], [*TEST_OPTIONAL], sep='\\n')"
    found = subprocess.check_output([sys.executable, "-c", code], text=True)
    needed_run, needed_test, optional = map(ast.literal_eval, found.splitlines())
    assert needed_run == declared_run
    assert needed_test == declared_run + declared_test
    assert optional == names(setup["options.extras_require"]["quic"])
