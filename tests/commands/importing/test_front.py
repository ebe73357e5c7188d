"""`nginy import` as it is typed: what goes where, exit statuses, and files left whole."""

import os
import pathlib

import pytest
from nginy.cli import main
from nginy.commands.importing.report import Entry, Fate, counts, render_report, shown, status

CONF = """\
events {}
stream {
    server {
        listen 127.0.0.1:80;
        proxy_pass 127.0.0.1:81;
    }
}
"""
OTHER = CONF.replace("stream {", "stream {\n    js_path x;")
SCRIPTS = "left out  {}:3  js_path x: nginy runs no scripts, so the effect of this one is missing"

Capture = pytest.CaptureFixture[str]


def typed(capsys: Capture, *argv: str) -> tuple[int, str, list[str]]:
    code = main(["import", *argv])
    printed = capsys.readouterr()
    return code, printed.out, printed.err.splitlines()


@pytest.fixture
def conf(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "nginx.conf"
    path.write_text(CONF)
    return path


def test_what_is_the_same_goes_to_standard_output_and_the_report_to_the_other(
    conf: pathlib.Path, capsys: Capture
) -> None:
    code, out, report = typed(capsys, str(conf))
    assert code == 0
    assert out.startswith("worker_connections: 512\n")
    assert report[-2:] == [
        f"exact     {conf}:5  proxy_pass 127.0.0.1:81",
        "5 directives: 5 the same, 0 differ, 0 not carried over",
    ]


def test_what_is_not_the_same_is_written_with_status_3_and_not_at_all_if_strict(
    conf: pathlib.Path, tmp_path: pathlib.Path, capsys: Capture
) -> None:
    conf.write_text(OTHER)
    out = tmp_path / "nginy.yml"
    code, printed, report = typed(capsys, "--strict", "-o", str(out), str(conf))
    assert (code, printed, out.exists()) == (3, "", False)
    assert SCRIPTS.format(conf) in report
    assert report[-1] == "nothing is written, because not everything is the same"
    code, printed, report = typed(capsys, str(conf), f"-o{out}")
    assert (code, printed, report[-1]) == (
        3, "", "6 directives: 5 the same, 0 differ, 1 not carried over",
    )  # fmt: skip
    assert "# js_path x: nginy runs no scripts" in out.read_text()


def test_out_is_replaced_whole_or_not_at_all(
    conf: pathlib.Path, tmp_path: pathlib.Path, capsys: Capture
) -> None:
    out = tmp_path / "out" / "nginy.yml"
    out.parent.mkdir()
    out.write_text("old")
    out.chmod(0o640)
    link = tmp_path / "link.yml"
    link.symlink_to(out)
    before = out.stat().st_ino
    assert typed(capsys, "-o", str(link), str(conf))[0] == 0
    assert out.read_text().endswith("proxy_half_close: off\n")
    assert (out.stat().st_mode & 0o777, link.is_symlink()) == (0o640, True)
    assert out.stat().st_ino != before
    text = out.read_text()
    conf.write_text(CONF[:-2])
    code, printed, said = typed(capsys, "-o", str(link), str(conf))
    assert (code, printed, out.read_text()) == (1, "", text)
    assert said == [f'nginy: [emerg] {conf}:2:1: the block of "stream" has no "}}"']
    assert os.listdir(out.parent) == ["nginy.yml"]


def test_out_may_be_a_device_or_a_pipe_and_stays_one(
    conf: pathlib.Path, tmp_path: pathlib.Path, capsys: Capture
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert typed(capsys, "-o", str(pipe), str(conf))[:2] == (0, "")
        assert pipe.is_fifo()
        assert os.read(reader, 4096).endswith(b"proxy_half_close: off\n")
    finally:
        os.close(reader)


def test_out_is_none_of_the_files_that_are_read(
    conf: pathlib.Path, tmp_path: pathlib.Path, capsys: Capture
) -> None:
    part, link = tmp_path / "part.conf", tmp_path / "link.yml"
    part.write_text(CONF)
    link.symlink_to(part)
    conf.write_text("include part.conf;\n")
    said = f'nginy: [emerg] "{link}" is one of the files to import, expected another one'
    assert typed(capsys, "--from", "nginx", "-o", str(link), str(conf)) == (1, "", [said])
    assert part.read_text() == CONF


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["{conf}", "--from", "apache"], 'invalid option: "--from apache", expected nginx'),
        (["{dir}/no.conf"], "{dir}/no.conf: cannot be read: No such file or directory"),
        (["{dir}"], "{dir}: cannot be read: Is a directory"),
        (["/dev/null"], "/dev/null: is not a file"),
        (["{conf}", "-o", "{dir}"], '"{dir}" is a directory, expected a file'),
        (["{conf}", "-o", "{conf}"], '"{conf}" is the file to import, expected another one'),
        (
            ["{conf}", "-o", "{dir}/no/x.yml"],
            '"{dir}/no/x.yml" cannot be written: No such file or directory',
        ),
    ],
)
def test_a_slip_is_one_sentence(
    conf: pathlib.Path, tmp_path: pathlib.Path, capsys: Capture, argv: list[str], message: str
) -> None:
    names = {"conf": conf, "dir": tmp_path}
    code, out, said = typed(capsys, *(word.format(**names) for word in argv))
    assert (code, out) == (1, "")
    assert len(said) == 1
    assert said[0].startswith("nginy: [emerg] " + message.format(**names))


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("just words", "", "nginy does not recognize this configuration, expected"),
        ("http {\n server {}\n}\n", ":1:1", 'there is only "http": nginy is layer 4'),
        ("events {}\n", "", 'there is no "stream" in it'),
        ("stream {\n server { listen 80; }\n}\n", ":2:1", "server: it has neither proxy_pass"),
        (
            "stream {\n server {\n  listen 80;\n  proxy_pass web;\n }\n}\n",
            ":4:1",
            'proxy_pass web: there is no upstream "web", so nobody can connect; nothing in it',
        ),
        (
            "stream {\n server {\n  listen 80\n  proxy_pass x:1;\n }\n}\n",
            ":3:1",
            '"proxy_pass" within "listen", expected ";" before it',
        ),
        ("stream {}\n", "", "nothing in it listens, so there is nothing to import"),
        ("listen a\n mode tcp\n \\ \n", "", "nothing in it listens, so there is nothing to import"),
        ("stream {\n include no/x.conf;\n}\n", ":2:1", '"{dir}/no/x.conf" cannot be read: No such'),
    ],
)
def test_a_file_that_gives_nothing_is_refused_with_its_place(
    conf: pathlib.Path, capsys: Capture, text: str, place: str, message: str
) -> None:
    conf.write_text(text)
    code, out, said = typed(capsys, str(conf))
    assert (code, out) == (1, "")
    message = message.format(dir=conf.parent)
    assert [line for line in said if line.startswith(f"nginy: [emerg] {conf}{place}: {message}")]


def test_a_result_that_does_not_load_is_told(conf: pathlib.Path, capsys: Capture) -> None:
    conf.write_text(CONF.replace("127.0.0.1:81", "127.0.0.1:80"))
    code, out, report = typed(capsys, str(conf))
    assert code == 3
    assert out
    assert report[-1].startswith("the result does not load: nginy.yml:")


def test_who_starts_nginy_with_another_program_s_file_is_told_what_to_type(
    conf: pathlib.Path, tmp_path: pathlib.Path, capsys: Capture
) -> None:
    said = f"nginy: {conf} looks like a configuration for nginx: try nginy import {conf}"
    assert main(["-t", str(conf)]) == 1
    assert said in capsys.readouterr().err.splitlines()
    own = tmp_path / "nginy.conf"
    own.write_text("listeners: {listen: 127.0.0.1:80}\n")
    for path in (own, tmp_path / "none.conf"):
        assert main([str(path)]) == 1
        assert "looks like" not in capsys.readouterr().err


def test_a_report_has_each_directive_with_its_place_and_then_the_counts() -> None:
    entries = [
        Entry("a.conf", 3, "listen 80", Fate.EXACT),
        Entry("b/c.conf", 12, "user a b", Fate.CLOSE, "nginy takes the group of its user"),
    ]
    assert render_report(entries) == [
        "exact     a.conf:3     listen 80",
        "close     b/c.conf:12  user a b: nginy takes the group of its user",
        "2 directives: 1 the same, 1 differs, 0 not carried over",
    ]
    assert counts(entries[:1]) == "1 directive: 1 the same, 0 differ, 0 not carried over"
    assert (status(entries[:1]), status(entries)) == (0, 3)
    assert shown(["a", "\n" + "b" * 99]) == r"a \x0A" + "b" * 51 + "..."
    assert shown(["tcp-check", "send", "PING\r\n\u202e"]) == r"tcp-check send PING\x0D\x0A?"
