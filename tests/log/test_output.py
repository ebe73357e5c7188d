import errno
import os
import pty
import socket
import stat

import pytest
from nginy.log.output import (
    PIPE_BUF,
    DatagramReturnedError,
    FileOutput,
    JournalOutput,
    SharedOutput,
    SyslogOutput,
    is_journal,
    open_output,
    syslog_address,
)

AT_S = 1795458901.0  # 2026-11-23 18:35:01 UTC


def wall_s():
    return AT_S


def write_until_refused(output, chunk):
    taken = 0
    while written := output.write(chunk):
        taken += written
    return taken


@pytest.fixture
def shared(request):
    """Make SharedOutputs that are closed at the end."""
    made = []

    def make(fd, **kwargs):
        made.append(SharedOutput(fd, **kwargs))
        return made[-1]

    yield make
    for output in made:
        output.close()


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


# -- shared descriptors --


@pytest.mark.parametrize("kwargs", [{}, {"rwf_nowait": 0}], ids=["nowait", "poll"])
def test_a_full_shared_pipe_takes_nothing_and_never_waits(pipe, shared, kwargs):
    reader, writer = pipe
    output = shared(writer, **kwargs)
    taken = write_until_refused(output, b"x" * PIPE_BUF)
    assert taken == 65536
    assert len(os.read(reader, taken)) == taken
    assert output.write(b"again") == 5


@pytest.mark.parametrize("kwargs", [{}, {"rwf_nowait": 0}], ids=["nowait", "poll"])
def test_the_description_shared_with_others_stays_blocking(pipe, shared, kwargs):
    _, writer = pipe
    write_until_refused(shared(writer, **kwargs), b"x" * PIPE_BUF)
    assert os.get_blocking(writer)


def test_a_shared_pipe_that_others_made_non_blocking_is_no_failure(pipe, shared):
    _, writer = pipe
    os.set_blocking(writer, False)
    write_until_refused(shared(writer, rwf_nowait=0), b"x" * PIPE_BUF)


def test_a_full_shared_socket_takes_nothing_and_never_waits(shared):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert write_until_refused(shared(ours.fileno()), b"x" * PIPE_BUF) > 0
        assert os.get_blocking(ours.fileno())


def test_a_stopped_terminal_takes_nothing_and_stays_blocking_for_the_shell(shared):
    master, slave = pty.openpty()
    try:
        assert write_until_refused(shared(slave), b"x" * (PIPE_BUF - 1) + b"\n") > 0
        assert os.get_blocking(slave)
    finally:
        os.close(slave)
        os.close(master)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_terminal_of_another_user_is_written_all_the_same(shared):
    master, slave = pty.openpty()
    os.seteuid(65534)
    try:
        output = shared(slave)
        assert output.write(b"line\n") == 5
    finally:
        os.seteuid(0)
    assert os.read(master, 100) == b"line\r\n"
    assert os.get_blocking(slave)
    os.close(slave)
    os.close(master)


def test_a_device_without_nowait_falls_back_to_a_plain_write(shared):
    null, full = os.open("/dev/null", os.O_WRONLY), os.open("/dev/full", os.O_WRONLY)
    try:
        assert shared(null).write(b"line\n") == 5
        with pytest.raises(OSError, match="No space left"):
            shared(full).write(b"line\n")
    finally:
        os.close(null)
        os.close(full)


def test_a_shared_pipe_without_reader_is_a_broken_pipe(shared):
    reader, writer = os.pipe()
    output = shared(writer)
    os.close(writer)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        output.write(b"line\n")


def test_a_descriptor_number_that_is_used_again_gets_no_log_line(tmp_path, shared):
    reader, writer = os.pipe()
    output = shared(writer)
    os.close(writer)
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    assert other == writer
    output.write(b"line\n")
    os.close(other)
    assert os.read(reader, 100) == b"line\n"
    assert (tmp_path / "other").read_bytes() == b""
    os.close(reader)


def test_a_closed_descriptor_is_refused_at_the_start(pipe):
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        SharedOutput(writer)


# -- paths --


def test_a_file_is_made_with_nginx_mode_and_appended_to(tmp_path):
    path = tmp_path / "log"
    for line in b"one\n", b"two\n":
        output = FileOutput(str(path))
        output.write(line)
        output.close()
    assert path.read_bytes() == b"one\ntwo\n"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 & ~umask


@pytest.mark.parametrize(
    ("name", "number"),
    [("", errno.EISDIR), ("no/such/log", errno.ENOENT), ("file/log", errno.ENOTDIR)],
)
def test_a_path_that_cannot_be_opened_is_refused_at_the_start(tmp_path, name, number):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Errno") as caught:
        FileOutput(f"{tmp_path}/{name}")
    assert caught.value.errno == number


def test_a_fifo_nobody_reads_opens_later(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    output = FileOutput(path)
    with pytest.raises(OSError, match="No such device") as caught:
        output.write(b"line\n")
    assert caught.value.errno == errno.ENXIO
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert output.write(b"line\n") == 5
    assert os.read(reader, 100) == b"line\n"
    assert write_until_refused(output, b"x" * PIPE_BUF) == 65536
    os.close(reader)
    output.close()


def test_a_socket_in_the_file_system_is_refused_at_the_start(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
        with pytest.raises(OSError, match="No such device"):
            FileOutput(str(tmp_path / "sock"))


# -- syslog --


@pytest.mark.parametrize(
    ("server", "family", "address"),
    [
        ("syslog:127.0.0.1:5514", socket.AF_INET, ("127.0.0.1", 5514)),
        ("syslog:127.0.0.1", socket.AF_INET, ("127.0.0.1", 514)),
        ("syslog:[::1]:5514", socket.AF_INET6, ("::1", 5514)),
        ("syslog:[::1]", socket.AF_INET6, ("::1", 514)),
        ("syslog:unix:/dev/log", socket.AF_UNIX, "/dev/log"),
    ],
)
def test_a_syslog_server_is_an_address_or_a_unix_socket(server, family, address):
    assert syslog_address(server) == (family, address)


@pytest.mark.parametrize(
    "rest",
    [
        "", ":514", "loghost:514", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x",
        "127.0.0.1:\u0665", "127.0.0.256", "::1", "[::1", "[]:1", "[::1]514", "unix:", "unix:log",
    ],
)  # fmt: skip
def test_a_malformed_syslog_server_is_refused_with_its_text(rest):
    with pytest.raises(ValueError, match="expected syslog:ADDRESS:PORT") as caught:
        open_output(f"syslog:{rest}", wall_s)
    assert str(caught.value).startswith(f'"syslog:{rest}": ')


def test_a_unix_syslog_line_has_priority_time_and_tag(tmp_path, monkeypatch):
    output = SyslogOutput(f"syslog:unix:{tmp_path}/log", wall_s)
    framed = output.frame(b"hello\nworld\n", severity=3).decode().splitlines()
    assert [line[:5] for line in framed] == ["<187>", "<187>"]
    assert [line[20:] for line in framed] == [" nginy: hello", " nginy: world"]
    assert framed[0][5:9] == "Nov "


def test_a_line_over_the_network_says_its_host_as_well():
    framed = SyslogOutput("syslog:127.0.0.1:9", wall_s).frame(b"hello\n", severity=6)
    assert framed.endswith(f" {socket.gethostname()} nginy: hello\n".encode())
    assert framed.startswith(b"<190>")


def test_each_write_sends_one_line_without_its_newline():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(15)
        output = SyslogOutput(f"syslog:127.0.0.1:{server.getsockname()[1]}", wall_s)
        assert output.write(b"one\ntwo\n") == 4
        assert server.recv(100) == b"one"
        output.close()


def test_a_refused_datagram_is_told_from_a_failure_of_this_one():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        output = SyslogOutput(f"syslog:127.0.0.1:{server.getsockname()[1]}", wall_s)
    output.write(b"this comes back\n")
    with pytest.raises(DatagramReturnedError, match="Connection refused"):
        write_until_refused(output, b"line\n")
    assert output.write(b"line\n") == 5
    output.close()


def test_a_line_longer_than_a_datagram_can_never_go(tmp_path):
    output = SyslogOutput(f"syslog:unix:{tmp_path}/log", wall_s)
    with pytest.raises(OSError, match="Message too long") as caught:
        output.write(b"x" * output.chunk_bytes)
    assert caught.value.errno == errno.EMSGSIZE


def test_nothing_is_left_open(tmp_path):
    before = os.listdir("/proc/self/fd")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "sock"))
        for output in (
            FileOutput(str(tmp_path / "log")),
            SharedOutput(1),
            SyslogOutput(f"syslog:unix:{tmp_path}/sock", wall_s),
        ):
            output.write(b"\n")
            output.reopen()
            output.write(b"\n")
            output.close()
            output.close()
    assert os.listdir("/proc/self/fd") == before


# -- the journal --


def stream_of(fd):
    """What systemd puts into JOURNAL_STREAM for a stream that the journal reads."""
    status = os.fstat(fd)
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


def test_each_line_to_the_journal_tells_its_priority(pipe):
    reader, writer = pipe
    output = JournalOutput(writer)
    output.write(output.frame(b"a warning\n    and below it\n", 4))
    assert os.read(reader, 100) == b"<4>a warning\n<4>    and below it\n"
    output.close()


def test_the_journal_is_known_by_what_systemd_says_of_the_stream(pipe):
    reader, writer = pipe
    other = os.memfd_create("other")
    assert is_journal(writer, stream_of(writer))
    assert not is_journal(writer, stream_of(other))
    assert not is_journal(writer, {})
    os.close(other)
    assert not is_journal(other, {"JOURNAL_STREAM": "1:2"})
    assert reader
