"""The command line: what is printed where, exit statuses, and signals sent to real processes."""

import pathlib
import socket
import subprocess
import sys

import pytest
from nginy import __version__
from nginy.cli import main
from nginy.config.load import load

from kit.configs import write
from kit.program import own_host

Capture = pytest.CaptureFixture[str]

LISTENER = f"listeners: {{listen: '{own_host()}:8080', return: hello}}\n"
"""-t binds it for a moment, as others may do at the same time."""

# Says when it is ready, waits for a signal, and says which one it was.
WAITER = """\
import signal
names = {signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, names)
print("ready", flush=True)
print(signal.Signals(signal.sigwait(names)).name, flush=True)
"""


def outcome(capsys: Capture, *argv: str) -> tuple[int, str, list[str]]:
    """The exit status, what went to stdout, and the lines that went to stderr."""
    status = main(argv)
    printed = capsys.readouterr()
    return status, printed.out, printed.err.splitlines()


# Checking.


def test_t_says_that_a_right_configuration_is_right(
    tmp_path: pathlib.Path, capsys: Capture
) -> None:
    path = write(tmp_path, LISTENER)
    assert outcome(capsys, "-t", path) == (
        0,
        "",
        [
            f"nginy: the configuration file {path} syntax is ok",
            f"nginy: configuration file {path} test is successful",
        ],
    )


def test_t_warns_of_what_is_right_but_serves_nobody(
    tmp_path: pathlib.Path, capsys: Capture
) -> None:
    down = "upstreams: {pool: {backends: [{address: '127.0.0.1:1', down: on}]}}\n"
    path = write(tmp_path, down + LISTENER.replace("return: hello", "proxy_pass: pool"))
    status, _, lines = outcome(capsys, "-t", path)
    assert status == 0
    assert lines[0] == (
        f'nginy: [warn] {path}:1:30: all backends of upstream "pool" are down, so its sessions end'
        " at once, with status 502"
    )
    assert lines[-1] == f"nginy: configuration file {path} test is successful"


def test_t_names_every_mistake_and_fails(tmp_path: pathlib.Path, capsys: Capture) -> None:
    path = write(tmp_path, "pdi: x\nworker_connections: 0\n" + LISTENER)
    assert outcome(capsys, "-t", path) == (
        1,
        "",
        [
            (
                f'nginy: [emerg] {path}:1:1: unknown key "pdi" in the configuration'
                ' (did you mean "pid"?)'
            ),
            (
                f'nginy: [emerg] {path}:2:21: worker_connections: "0" is too small,'
                " expected a whole number from 1"
            ),
            f"nginy: configuration file {path} test failed",
        ],
    )


@pytest.mark.parametrize("argv", [[""], ["-t", ""], ["-c", ""]])
def test_an_empty_name_of_a_file_is_one_sentence(capsys: Capture, argv: list[str]) -> None:
    """As in a script whose variable is not set."""
    status, out, err = outcome(capsys, *argv)
    assert (status, out, err[0]) == (
        1,
        "",
        "nginy: [emerg] : cannot be read: No such file or directory",
    )


def test_t_names_files_that_could_not_be_written(tmp_path: pathlib.Path, capsys: Capture) -> None:
    path = write(tmp_path, "pid: none/nginy.pid\n" + LISTENER)
    assert outcome(capsys, "-t", path) == (
        1,
        "",
        [
            f"nginy: the configuration file {path} syntax is ok",
            f'nginy: [emerg] {path}:1:6: pid: the directory "{tmp_path}/none" does not exist',
            f"nginy: configuration file {path} test failed",
        ],
    )


def test_a_missing_file_is_one_sentence(tmp_path: pathlib.Path, capsys: Capture) -> None:
    path = str(tmp_path / "no.yml")
    assert outcome(capsys, "-t", path) == (
        1,
        "",
        [
            f"nginy: [emerg] {path}: cannot be read: No such file or directory",
            f"nginy: configuration file {path} test failed",
        ],
    )


def test_without_t_a_wrong_configuration_is_not_called_a_test(
    tmp_path: pathlib.Path, capsys: Capture
) -> None:
    path = write(tmp_path, "listeners: []\n")
    status, _, lines = outcome(capsys, path)
    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith(f"nginy: [emerg] {path}:1:12: listeners: an empty list")


def test_the_dump_goes_to_stdout_and_loads_again(tmp_path: pathlib.Path, capsys: Capture) -> None:
    path = write(tmp_path, LISTENER)
    status, out, lines = outcome(capsys, "-T", path)
    assert status == 0
    assert lines[-1] == f"nginy: configuration file {path} test is successful"
    assert out.startswith(f"# configuration file {path}:\nworkers: 1\nworker_connections: 16384\n")
    assert load(write(tmp_path, out, "dumped.yml"), {}) == load(path, {})


def test_the_environment_is_that_of_the_process(
    tmp_path: pathlib.Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGINY_TEST_TEXT", "from outside")
    path = write(tmp_path, "listeners: {listen: 127.0.0.1:1, return: '${NGINY_TEST_TEXT}'}\n")
    _, out, _ = outcome(capsys, "-T", path)
    assert "  return: from outside\n" in out


def test_a_reader_that_leaves_early_is_no_error(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-c", "import sys, nginy.cli; sys.exit(nginy.cli.main())"]
    process = subprocess.Popen(
        [*command, "--help-config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait() == 0


def test_a_full_disk_is_one_sentence() -> None:
    command = [sys.executable, "-c", "import sys, nginy.cli; sys.exit(nginy.cli.main())"]
    with open("/dev/full", "wb") as full:
        found = subprocess.run(
            [*command, "--help-config"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    said = b"nginy: [emerg] standard output cannot be written: No space left on device\n"
    assert (found.returncode, found.stderr) == (1, said)


# About nginy itself.


def test_v_prints_the_version_as_nginx_does(capsys: Capture) -> None:
    for option in ("-v", "--version"):
        assert outcome(capsys, option) == (0, "", [f"nginy version: nginy/{__version__}"])


def test_capital_v_adds_what_it_runs_on(capsys: Capture) -> None:
    status, out, lines = outcome(capsys, "-V")
    assert (status, out, len(lines)) == (0, "", 3)
    assert lines[0] == f"nginy version: nginy/{__version__}"
    assert lines[1].startswith("Python 3.")
    assert lines[2].startswith("PyYAML ")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_every_option(capsys: Capture, option: str) -> None:
    status, out, lines = outcome(capsys, option)
    assert (status, lines) == (0, [])
    for name in ("-t ", "-T ", "-s SIGNAL", "-v ", "-V ", "-h --help", "--help-config"):
        assert f"\n  {name}" in out


def test_help_config_prints_the_language(capsys: Capture) -> None:
    status, out, lines = outcome(capsys, "--help-config")
    assert (status, lines) == (0, [])
    assert "- `proxy_connect_timeout`: " in out
    assert "- `$remote_addr` *: " in out


@pytest.mark.parametrize("argv", [[], ["-x", "a.yml"], ["a.yml", "b.yml"], ["-s"], ["--nonsense"]])
def test_a_wrong_command_line_prints_the_usage_and_fails(capsys: Capture, argv: list[str]) -> None:
    status, out, lines = outcome(capsys, *argv)
    assert (status, out) == (1, "")
    assert "  nginy [-t | -T | -s SIGNAL] (CONFIG | -c FILE)" in lines


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["-q", "a.yml"],
            'unknown option "-q", expected --anonymous, --ascii, --check, --completion, --dry-run',
        ),
        (["-tq", "a.yml"], 'unknown option "-q", expected'),
        (["--hlep"], 'unknown option "--hlep" (did you mean "--help"?), expected'),
        (["--nonsense=1", "a.yml"], 'unknown option "--nonsense", expected'),
        (["--config", "a.yml"], 'unknown option "--config" (did you mean "-c"?), expected'),
        (["-f", "a.yml"], 'unknown option "-f" (did you mean "-c"?), expected'),
        (["reopen", "a.yml"], 'unknown command "reopen" (did you mean "-s reopen"?)'),
        (["-t", "-s", "stop", "a.yml"], "-t and -s cannot be combined"),
        (["-T", "a.yml", "-t"], "-t and -T cannot be combined"),
        (["-s", "stop", "a.yml", "b.yml"], "missing or extra argument"),
        ([], "no configuration file"),
        (["-t"], "no configuration file"),
        (["-s"], "-s has no value, expected stop, quit, reload, reopen, upgrade"),
        (["a.yml", "-c"], "-c has no value, expected FILE"),
        (["statsu", "a.yml"], 'unknown command "statsu" (did you mean "status"?)'),
        (["-t", "a.yml", "b.yml"], "missing or extra argument"),
        (
            ["explain", "a.yml"],
            "missing or extra argument, expected nginy explain CONFIG LISTENER CLIENT [FIRST]...",
        ),
        (["drain", "a.yml"], "missing or extra argument, expected nginy drain [--wait TIME]"),
    ],
)
def test_what_is_wrong_with_a_command_line_is_said(
    capsys: Capture, argv: list[str], said: str
) -> None:
    status, _, lines = outcome(capsys, *argv)
    assert status == 1
    assert lines[0].startswith(f"nginy: {said}")
    if "unknown option" in said:
        assert lines[0].endswith("--version, --wait, -T, -V, -a, -c, -d, -h, -o, -s, -t, -v")


def test_the_configuration_may_follow_c_as_with_nginx(
    tmp_path: pathlib.Path, capsys: Capture
) -> None:
    path = write(tmp_path, LISTENER)
    for argv in (["-t", "-c", path], ["-tc", path], ["-c", path, "-t"]):
        status, _, lines = outcome(capsys, *argv)
        assert (status, lines[-1]) == (0, f"nginy: configuration file {path} test is successful")


# Signals.


@pytest.mark.parametrize(
    ("name", "expected"),
    [("stop", "SIGTERM"), ("quit", "SIGQUIT")],  # reload and reopen wait: tests/run/test_ask.py
)
def test_s_sends_nginx_s_signals_to_the_process_of_the_pid_file(
    tmp_path: pathlib.Path, capsys: Capture, name: str, expected: str
) -> None:
    path = write(tmp_path, "pid: nginy.pid\n" + LISTENER)
    command = [sys.executable, "-c", WAITER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            write(tmp_path, f"{process.pid}\n", "nginy.pid")
            assert outcome(capsys, "-s", name, path) == (0, "", [])
            assert process.stdout.readline() == f"{expected}\n"
        finally:
            process.kill()


def test_s_knows_five_signals(tmp_path: pathlib.Path, capsys: Capture) -> None:
    """The word is wrong whatever the file says, so nobody has to mend the file first."""
    message = (
        'nginy: [emerg] invalid option: "-s kill", expected stop, quit, reload, reopen, upgrade'
    )
    for path in (write(tmp_path, LISTENER), write(tmp_path, "?", "bad.yml"), "missing.yml"):
        assert outcome(capsys, "-s", "kill", path) == (1, "", [message])
    message = message.replace("kill", "relaod") + ' (did you mean "reload"?)'
    assert outcome(capsys, "-s", "relaod", "missing.yml") == (1, "", [message])
    status, _, err = outcome(capsys, "-s", "", "missing.yml")
    assert status == 1
    assert 'invalid option: "-s ", expected stop' in err[0]


def test_completion_knows_three_shells(capsys: Capture) -> None:
    for shell in ("", "tcsh"):
        message = f'nginy: [emerg] invalid option: "--completion {shell}", expected bash, zsh, fish'
        assert outcome(capsys, "--completion", shell) == (1, "", [message])


def test_s_needs_a_pid_file(tmp_path: pathlib.Path, capsys: Capture) -> None:
    path = write(tmp_path, LISTENER)
    message = f'nginy: [emerg] {path} sets no "pid" file, which -s needs to find the process'
    assert outcome(capsys, "-s", "stop", path) == (1, "", [message])


def test_a_missing_pid_file_is_one_sentence(tmp_path: pathlib.Path, capsys: Capture) -> None:
    path = write(tmp_path, "pid: nginy.pid\n" + LISTENER)
    reason = "failed (2: No such file or directory)"
    message = f'nginy: [emerg] open() "{tmp_path}/nginy.pid" {reason}'
    assert outcome(capsys, "-s", "stop", path) == (1, "", [message])


@pytest.mark.parametrize("text", ["", "abc", "-1", "0", "1 2", "01", "9" * 40, "\x01", "é"])
def test_a_pid_file_with_anything_else_in_it_is_refused(
    tmp_path: pathlib.Path, capsys: Capture, text: str
) -> None:
    path = write(tmp_path, "pid: nginy.pid\n" + LISTENER)
    write(tmp_path, text, "nginy.pid")
    status, out, lines = outcome(capsys, "-s", "stop", path)
    assert (status, out, len(lines)) == (1, "", 1)
    assert lines[0].startswith('nginy: [emerg] invalid PID number "')
    assert lines[0].endswith(f'" in "{tmp_path}/nginy.pid"')


def test_a_stale_pid_file_is_one_sentence(tmp_path: pathlib.Path, capsys: Capture) -> None:
    path = write(tmp_path, "pid: nginy.pid\n" + LISTENER)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    write(tmp_path, f"{process.pid}\n", "nginy.pid")
    source = f'kill({process.pid}) of the PID in "{tmp_path}/nginy.pid"'
    message = f"nginy: [emerg] {source} failed (3: No such process)"
    assert outcome(capsys, "-s", "stop", path) == (1, "", [message])


# As a program.


def test_an_address_in_use_ends_a_start_with_one_sentence(
    tmp_path: pathlib.Path, capsys: Capture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path = write(tmp_path, f"listeners: {{listen: '{address}', return: x}}\n")
        status, out, lines = outcome(capsys, path)
    assert (status, out) == (1, "")
    assert len(lines) == 1
    assert lines[0].startswith(f"nginy: [emerg] bind() to {address} failed (98: ")
