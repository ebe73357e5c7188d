"""`nginy plan` and `nginy explain`: questions about configurations that change nothing."""

import pathlib

import pytest
from nginy.cli import main

from kit.configs import LISTENER, write

Capture = pytest.CaptureFixture[str]


def test_plan_compares_two_files(tmp_path: pathlib.Path, capsys: Capture) -> None:
    old = write(tmp_path, LISTENER, "old.yml")
    new = write(tmp_path, LISTENER.replace("hello", "bye"), "new.yml")
    assert main(["plan", "-c", old, new]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("~ listener 127.0.0.1:80 changed: return hello -> bye\n", "")


def test_plan_reports_what_is_wrong_with_either_file(
    tmp_path: pathlib.Path, capsys: Capture
) -> None:
    good = write(tmp_path, LISTENER, "good.yml")
    bad = write(tmp_path, "listeners: []\n", "bad.yml")
    for arguments in (["-c", good, bad], ["-c", bad, good]):
        assert main(["plan", *arguments]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"nginy: [emerg] {bad}:1:12: listeners: an empty list")


def test_plan_says_plainly_that_it_has_nothing_to_compare_with(
    tmp_path: pathlib.Path, capsys: Capture
) -> None:
    path = write(tmp_path, LISTENER)
    assert main(["plan", path]) == 1
    assert capsys.readouterr().err == (
        f'nginy: [emerg] {path} has no "pid" file; to compare it with another file, use -c FILE\n'
    )
    path = write(tmp_path, f"pid: nginy.pid\n{LISTENER}")
    assert main(["plan", path]) == 1
    assert capsys.readouterr().err == (
        f'nginy: [emerg] open() "{tmp_path}/nginy.pid" failed (2: No such file or directory);'
        f" to compare {path} with another file, use -c FILE\n"
    )


def test_explain_prints_the_way_of_a_client(tmp_path: pathlib.Path, capsys: Capture) -> None:
    path = write(tmp_path, LISTENER)
    assert main(["explain", path, "127.0.0.1:80", "10.1.2.3:4"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("client    10.1.2.3:4\nlistener  127.0.0.1:80 tcp")
    assert err == ""


def test_explain_refuses_a_listener_that_is_not_there(
    tmp_path: pathlib.Path, capsys: Capture
) -> None:
    path = write(tmp_path, LISTENER)
    assert main(["explain", path, "127.0.0.1:81", "10.1.2.3"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        'nginy: [emerg] there is no listener "127.0.0.1:81" (did you mean "127.0.0.1:80"?)\n'
    )


def test_a_file_may_be_called_plan(tmp_path: pathlib.Path, capsys: Capture) -> None:
    path = write(tmp_path, LISTENER, "plan")
    assert main(["-T", path]) == 0
    assert capsys.readouterr().err.endswith("test is successful\n")
