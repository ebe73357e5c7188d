"""Files that a start needs: logs, the pid file, the user, and the programs of checks."""

import getpass
import os
import pathlib
from functools import partial

import pytest
from nginy.config.checking.files import check_files

from kit.configs import LISTENER, loaded


def problems(directory: pathlib.Path, text: str) -> list[str]:
    config = loaded(directory, f"{text}\n{LISTENER}")
    return [str(problem).replace(f"{directory}/", "") for problem in check_files(config)]


def test_files_that_can_be_written_are_fine(tmp_path: pathlib.Path) -> None:
    (tmp_path / "old.log").touch()
    logs = "error_log: old.log\naccess_log: syslog:127.0.0.1:514"
    text = f"pid: nginy.pid\n{logs}\nuser: {getpass.getuser()}"
    assert problems(tmp_path, text) == []


def test_files_that_cannot_be_written_are_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "d").mkdir()
    text = "pid: none/nginy.pid\nerror_log: ./d\naccess_log: none/x.log\nuser: nobody.such\n"
    text += "admin: {listen: unix:/run/a, group: nobody.such}"
    assert problems(tmp_path, text) == [
        'nginy.yml:1:6: pid: the directory "none" does not exist',
        'nginy.yml:2:12: error_log: "d" is a directory, expected a file',
        'nginy.yml:3:13: access_log: the directory "none" does not exist',
        'nginy.yml:4:7: user: there is no user "nobody.such"',
        'nginy.yml:5:37: group: there is no group "nobody.such"',
    ]


def test_the_directory_of_a_path_with_variables_has_to_be_there(tmp_path: pathlib.Path) -> None:
    (tmp_path / "logs").mkdir()
    assert problems(tmp_path, "access_log: logs/$pid/$pid.log") == []
    assert problems(tmp_path, "access_log: [logs/x-$pid.log, none/$pid.log]") == [
        'nginy.yml:1:31: access_log: the directory "none" does not exist'
    ]


def test_files_without_permission_are_named(
    tmp_path: pathlib.Path, request: pytest.FixtureRequest
) -> None:
    config = loaded(tmp_path, f"pid: run/nginy.pid\n{LISTENER}")
    (tmp_path / "run").mkdir(mode=0o555)
    if os.geteuid() == 0:  # root may write everything
        for directory in (tmp_path, *tmp_path.parents):
            if directory.stat().st_uid == 0 and directory.stat().st_mode & 0o005 != 0o005:
                request.addfinalizer(partial(directory.chmod, 0o700))
                directory.chmod(0o755)
        request.addfinalizer(lambda: os.seteuid(0))
        os.seteuid(65534)
    (problem,) = check_files(config)
    assert str(problem).endswith(f'pid: "{config.pid}" cannot be written: Permission denied')


# Programs of checks.


def program_problem(directory: pathlib.Path, command: object, head: str = "") -> str:
    """The one problem of a check that runs `command`."""
    check = f"{{type: exec, command: {command}}}"
    text = f"{head}upstreams: {{web: {{backends: 127.0.0.1:1, health_check: {check}}}}}"
    (problem,) = problems(directory, text)
    assert problem.startswith("nginy.yml:")
    return problem.partition("command: ")[2]


def script(directory: pathlib.Path, text: str, mode: int = 0o755) -> pathlib.Path:
    path = directory / "check"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_program_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "check"
    reason = "cannot be started: No such file or directory"
    assert program_problem(tmp_path, path) == f'"check" {reason}'
    assert program_problem(tmp_path, f"[{path}, x]") == f'"check" {reason}'


def test_a_program_that_may_not_be_run_is_named(tmp_path: pathlib.Path) -> None:
    path = script(tmp_path, "#!/bin/sh\n", 0o644)
    assert program_problem(tmp_path, path) == '"check" cannot be started: Permission denied'
    assert program_problem(tmp_path, tmp_path) == f'"{tmp_path}" is not a file, expected a program'


def test_a_first_line_that_leads_nowhere_is_named(tmp_path: pathlib.Path) -> None:
    path = script(tmp_path, "#!/no/such/interpreter -x\n")
    assert program_problem(tmp_path, path).endswith(
        'its first line names "/no/such/interpreter", which does not exist'
    )
    path = script(tmp_path, "exit 0\n")
    assert program_problem(tmp_path, path) == (
        '"check" is a text without a first line such as #!/bin/sh'
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
def test_a_program_that_the_user_may_not_run_is_named(tmp_path: pathlib.Path) -> None:
    path = script(tmp_path, "#!/bin/sh\n", 0o700)
    assert program_problem(tmp_path, path, "user: nobody\n").endswith("Permission denied")


def test_a_program_that_can_be_started_is_fine(tmp_path: pathlib.Path) -> None:
    for path in (script(tmp_path, "#!/bin/sh\nexit 0\n"), "/bin/sh -c 'exit 0'"):
        check = f'{{type: exec, command: "{path}"}}'
        text = f"upstreams: {{web: {{backends: 127.0.0.1:1, health_check: {check}}}}}"
        assert problems(tmp_path, text) == []
