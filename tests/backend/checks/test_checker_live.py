"""Each kind of check against servers of every habit, by every way to wait; time is the test's."""

import contextlib
import os
import pathlib
import resource
import shlex
import socket
import ssl
from collections.abc import Iterator

import pytest
from nginy.backend.checks.checker import Checker, ProbeSettings
from nginy.backend.checks.dialog import FIN_WAIT_MS, PASSED, Result
from nginy.backend.checks.program import MAX_PROCESSES, ProgramCheck
from nginy.event.tls_client import ClientTls
from nginy.text.address import parse_address
from nginy.wire.checks.http import HttpCheck
from nginy.wire.checks.steps import CheckStep, StepsCheck, single
from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.expect import parse_expect

from kit.ends import End
from kit.harness import Harness
from kit.program import own_host
from kit.servers import EchoBackend, FullPort, RefusingPort, Resetter, Server, SilentBackend
from kit.tls import TlsEnd, make_certificate

TIMEOUT_MS = 1000
ANY = ClientTls(verify=False)
EXPECT_X = single(expect=parse_expect("x"))


class Checks:
    """A checker, and the results of what it was told to check."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.checker = Checker(harness.loop)
        self.results: list[Result] = []

    def start(self, address: str, /, **probe: object) -> None:
        deadline_ms = self.harness.clock.now_ms + TIMEOUT_MS
        settings = ProbeSettings(**probe)  # type: ignore[arg-type]
        self.checker.start(settings, parse_address(address), deadline_ms, self.results.append)

    def result(self, address: str, /, **probe: object) -> Result:
        """The result of a check that ends without time passing."""
        before = len(self.results)
        self.start(address, **probe)
        self.harness.turn_until(lambda: len(self.results) > before)
        return self.results[before]

    def at_deadline(self, address: str, /, **probe: object) -> Result:
        """The result of a check that ends at its deadline and not before."""
        self.start(address, **probe)
        self.harness.settle()
        self.harness.advance(TIMEOUT_MS - 1)
        self.harness.settle()
        assert self.results == []
        self.harness.advance(11)
        (result,) = self.results
        return result

    def all_is_closed(self) -> bool:
        return not self.checker.open and not self.harness.loop.connections


@pytest.fixture
def checks(harness: Harness) -> Iterator[Checks]:
    made = Checks(harness)
    yield made
    made.checker.close()


def has_writer(fifo: int) -> bool:
    """Whether somebody holds the other end of a pipe on which nothing was written."""
    try:
        assert os.read(fifo, 1) == b""
    except BlockingIOError:
        return True
    return False


class Speaker(End):
    """Says something as soon as its connection is accepted."""

    greeting = b""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.send(self.greeting)
        self.is_finishing_last = True


def speaker(harness: Harness, greeting: bytes, *, at_once_eof: bool = False) -> Server:
    class Greeter(Speaker):
        def __init__(self, sock: socket.socket) -> None:
            super().__init__(sock)
            if at_once_eof:
                self.finish()

    Greeter.greeting = greeting
    server = harness.add(Server())
    server.end_class = Greeter
    return server


class TestTcp:
    def test_a_backend_that_accepts_passes(self, harness: Harness, checks: Checks) -> None:
        backend = harness.add(EchoBackend())
        assert checks.result(backend.name) == PASSED

    def test_the_connection_ends_cleanly_with_no_reset(
        self, harness: Harness, checks: Checks
    ) -> None:
        backend = harness.add(EchoBackend())
        checks.result(backend.name)
        harness.turn_until(checks.all_is_closed)
        harness.turn_until(lambda: backend.end.is_over)
        assert (backend.end.has_eof, backend.end.errno) == (True, 0)

    def test_a_backend_that_does_not_close_is_waited_for_100_ms(
        self, harness: Harness, checks: Checks
    ) -> None:
        backend = harness.add(SilentBackend())
        assert checks.result(backend.name) == PASSED
        harness.turn_until(lambda: backend.ends and backend.end.has_eof)
        harness.advance(FIN_WAIT_MS - 1)
        assert not checks.all_is_closed()
        harness.advance(11)
        assert checks.all_is_closed()

    def test_a_refused_connection_fails_at_once(self, harness: Harness, checks: Checks) -> None:
        port = harness.add(RefusingPort())
        assert checks.result(port.name) == Result("connect() failed (111: Connection refused)")
        assert checks.all_is_closed()

    def test_a_host_that_does_not_answer_fails_at_the_deadline(
        self, harness: Harness, checks: Checks
    ) -> None:
        port = harness.add(FullPort())
        assert checks.at_deadline(port.name) == Result("timed out while connecting")
        assert checks.all_is_closed()

    def test_a_silent_backend_of_which_an_answer_is_expected_fails_at_the_deadline(
        self, harness: Harness, checks: Checks
    ) -> None:
        backend = harness.add(SilentBackend())
        result = checks.at_deadline(backend.name, question=single(expect=parse_expect("+PONG")))
        text = 'timed out while waiting for the answer: nothing came, "+PONG" was expected'
        assert result == Result(text)
        harness.turn_until(lambda: backend.end.has_eof)
        assert not backend.end.errno
        harness.advance(FIN_WAIT_MS + 10)

    def test_what_is_sent_is_answered_as_expected(self, harness: Harness, checks: Checks) -> None:
        backend = harness.add(EchoBackend())
        question = single(b"PING\r\n", parse_expect("PING"))
        assert checks.result(backend.name, question=question) == PASSED
        assert backend.end.received == b"PING\r\n"

    def test_a_wrong_answer_fails_at_its_first_wrong_byte(
        self, harness: Harness, checks: Checks
    ) -> None:
        backend = speaker(harness, b"-")
        result = checks.result(backend.name, question=single(expect=parse_expect("+PONG")))
        text = 'the answer is not as expected: "-" came, "+PONG" was expected'
        assert result == Result(text)
        harness.turn_until(checks.all_is_closed)

    def test_a_pattern_is_looked_for_in_an_answer_that_comes_in_pieces(
        self, harness: Harness, checks: Checks
    ) -> None:
        backend = speaker(harness, b"status: fine")
        checks.start(backend.name, question=single(expect=parse_expect("~fi.e")))
        harness.turn_until(lambda: backend.ends)
        backend.end.write_bytes = 1
        harness.turn_until(lambda: checks.results)
        assert checks.results == [PASSED]

    def test_a_connection_closed_without_an_answer_fails(
        self, harness: Harness, checks: Checks
    ) -> None:
        backend = speaker(harness, b"", at_once_eof=True)
        result = checks.result(backend.name, question=single(expect=parse_expect("~^[+]OK")))
        text = 'the connection was closed without an answer: nothing came, "~^[+]OK" was expected'
        assert result == Result(text)

    def test_an_answer_that_is_cut_short_is_shown(self, harness: Harness, checks: Checks) -> None:
        backend = speaker(harness, b"+PO")
        result = checks.at_deadline(backend.name, question=single(expect=parse_expect("+PONG")))
        text = 'timed out while waiting for the answer: "+PO" came, "+PONG" was expected'
        assert result == Result(text)
        harness.advance(FIN_WAIT_MS + 10)

    def test_a_reset_fails(self, harness: Harness, checks: Checks) -> None:
        backend = harness.add(Resetter())
        result = checks.result(backend.name, question=single(expect=parse_expect("+")))
        assert "reset by peer" in result.failure

    def test_a_reset_in_place_of_an_answer_says_what_was_expected(
        self, harness: Harness, checks: Checks
    ) -> None:
        backend = speaker(harness, b"hello\n")
        checks.start(backend.name, question=Polite())
        harness.turn_until(lambda: backend.ends and backend.end.received)
        backend.end.reset()
        harness.turn_until(lambda: checks.results)
        text = (
            "polite: recv() failed (104: Connection reset by peer): nothing came, ok was expected"
        )
        assert checks.results == [Result(text)]

    def test_a_backend_that_never_stops_talking_is_left_after_100_ms(
        self, harness: Harness, checks: Checks
    ) -> None:
        backend = speaker(harness, b"+" * 50_000_000)
        assert checks.result(backend.name, question=single(expect=parse_expect("+"))) == PASSED
        for _ in range(5):
            harness.turn()
        harness.advance(FIN_WAIT_MS + 10)
        assert checks.all_is_closed()

    def test_a_unix_socket_and_another_port_are_checked(
        self, harness: Harness, checks: Checks, tmp_path: pathlib.Path
    ) -> None:
        unix = harness.add(EchoBackend(str(tmp_path / "backend")))
        other = harness.add(EchoBackend())
        assert checks.result(unix.name) == PASSED
        port = other.socket.getsockname()[1]
        assert checks.result("127.0.0.1:1", port=port) == PASSED

    def test_without_descriptors_nothing_is_said_about_the_backend(
        self, harness: Harness, checks: Checks
    ) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken: list[int] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            checks.start("127.0.0.1:1")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in taken:
                os.close(descriptor)
        assert checks.results == [Result("socket() failed (24: Too many open files)", is_ours=True)]

    def test_a_cancelled_check_says_nothing_and_ends_cleanly(
        self, harness: Harness, checks: Checks
    ) -> None:
        backend = harness.add(EchoBackend())
        checks.start(backend.name, question=single(expect=parse_expect("+")))
        harness.turn_until(lambda: backend.ends)
        harness.settle()
        (check,) = checks.checker.open
        check.cancel()
        harness.turn_until(checks.all_is_closed)
        assert (checks.results, backend.end.errno) == ([], 0)


class Polite:
    """A question with a goodbye, as the protocols have it."""

    name = "polite"

    def script(self, talk: Talk, _target: Target) -> Script[None]:
        line = yield from talk.line()
        talk.goodbye = b"QUIT\r\n"
        yield b"you said: "
        yield line
        talk.expected = "ok"
        if (yield from talk.line()) != b"ok":
            raise CheckFailedError("that is not ok")


class TestConversation:
    """Everything that a script says goes over the connection."""

    def converse(self, harness: Harness, checks: Checks, answer: bytes) -> Server:
        backend = speaker(harness, b"hello\r\n")
        checks.start(backend.name, question=Polite())
        harness.turn_until(lambda: backend.ends and backend.end.received)
        assert backend.end.received == b"you said: hello"
        backend.end.send(answer)
        harness.turn_until(lambda: checks.results)
        harness.turn_until(lambda: backend.end.has_eof)
        return backend

    def test_it_ends_politely(self, harness: Harness, checks: Checks) -> None:
        backend = self.converse(harness, checks, b"ok\r\n")
        assert checks.results == [PASSED]
        assert backend.end.received == b"you said: helloQUIT\r\n"
        harness.turn_until(checks.all_is_closed)
        assert not backend.end.errno

    def test_it_ends_politely_when_it_fails(self, harness: Harness, checks: Checks) -> None:
        backend = self.converse(harness, checks, b"no\r\n")
        assert checks.results == [Result("polite: that is not ok")]
        assert backend.end.received == b"you said: helloQUIT\r\n"

    def test_silence_is_told_with_what_was_expected(self, harness: Harness, checks: Checks) -> None:
        backend = speaker(harness, b"hello\n")
        assert checks.at_deadline(backend.name, question=Polite()) == Result(
            "polite: timed out while waiting for the answer: nothing came, ok was expected"
        )
        harness.advance(FIN_WAIT_MS + 10)

    def test_a_step_may_have_less_time(self, harness: Harness, checks: Checks) -> None:
        backend = speaker(harness, b"220 ")
        first, second = parse_expect("220"), parse_expect("250")
        steps = (CheckStep(b"", first, 500), CheckStep(b"HI", second, 300, "hi"))
        checks.start(backend.name, question=StepsCheck(steps))
        harness.turn_until(lambda: backend.ends and backend.end.received)
        harness.advance(290)
        assert checks.results == []
        harness.advance(20)
        (result,) = checks.results
        assert result.failure.startswith('step "hi": timed out while waiting for the answer')
        harness.advance(FIN_WAIT_MS + 10)


class TestHttp:
    @pytest.mark.parametrize(
        ("answer", "failure"),
        [
            (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody", ""),
            (b"HTTP/1.0 302 Found\r\n", ""),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", ""),
            (b"HTTP/1.1 503 Busy\r\n", "status 503 came, 200-399 was expected"),
            (
                b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 500 No\r\n",
                "status 500 came, 200-399 was expected",
            ),
            (
                b"SSH-2.0-OpenSSH\r\n",
                r'the answer is not HTTP: "SSH-2.0-OpenSSH\r\n" came',
            ),
            (
                b"\x15\x03\x01\x00\x02\x02\x46",
                r'the answer is not HTTP: "\x15\x03\x01\x00\x02\x02F" (looks like TLS) came',
            ),
            (b"HTTP/1.1 20", 'the status line is incomplete: "HTTP/1.1 20" came'),
        ],
    )
    def test_the_status_decides(
        self, harness: Harness, checks: Checks, answer: bytes, failure: str
    ) -> None:
        backend = speaker(harness, answer, at_once_eof=True)
        assert checks.result(backend.name, question=HttpCheck()) == Result(failure)

    def test_the_request_names_path_and_host(self, harness: Harness, checks: Checks) -> None:
        backend = harness.add(SilentBackend())
        checks.at_deadline(backend.name, question=HttpCheck("/health", "www"))
        assert backend.end.received.startswith(b"GET /health HTTP/1.1\r\nHost: www\r\n")
        harness.advance(FIN_WAIT_MS + 10)


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """What a TLS server needs."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(make_certificate(tmp_path_factory.mktemp("tls")))
    return made


class TestTls:
    def tls_server(self, harness: Harness, context: ssl.SSLContext) -> Server:
        server = harness.add(Server())
        server.end_class = lambda sock: TlsEnd(sock, context)  # type: ignore[assignment]
        return server

    def test_a_handshake_passes_and_ends_cleanly(
        self, harness: Harness, checks: Checks, context: ssl.SSLContext
    ) -> None:
        backend = self.tls_server(harness, context)
        assert checks.result(backend.name, tls=ANY, name="other.test") == PASSED
        harness.turn_until(checks.all_is_closed)
        assert (backend.end.has_eof, backend.end.errno) == (True, 0)

    def test_what_is_sent_and_expected_is_encrypted(
        self, harness: Harness, checks: Checks, context: ssl.SSLContext
    ) -> None:
        backend = self.tls_server(harness, context)
        checks.start(backend.name, tls=ANY, question=single(b"PING", parse_expect("PONG")))
        harness.turn_until(lambda: backend.ends and backend.end.received)
        assert backend.end.received == b"PING"
        backend.end.send(b"PONG")
        harness.turn_until(lambda: checks.results)
        assert checks.results == [PASSED]

    def test_a_backend_that_speaks_no_tls_fails(self, harness: Harness, checks: Checks) -> None:
        backend = speaker(harness, b"220 mail.example.test ESMTP\r\n")
        result = checks.result(backend.name, tls=ANY)
        assert result == Result("TLS handshake failed (what came is not TLS)")

    def test_a_backend_that_closes_on_a_hello_fails(self, harness: Harness, checks: Checks) -> None:
        backend = speaker(harness, b"", at_once_eof=True)
        assert checks.result(backend.name, tls=ANY, question=HttpCheck(name="https")) == Result(
            "https: the server closed the connection in the middle of the handshake"
        )

    @pytest.mark.parametrize("name", ["", "https"])
    def test_a_handshake_that_gets_no_answer_fails_at_the_deadline(
        self, harness: Harness, checks: Checks, name: str
    ) -> None:
        backend = harness.add(SilentBackend())
        result = checks.at_deadline(backend.name, tls=ANY, question=HttpCheck(name=name))
        stage = f"{name}: " if name else ""
        assert result == Result(f"{stage}timed out while shaking hands (TLS)")
        harness.advance(FIN_WAIT_MS + 10)


class TestUdp:
    @pytest.fixture
    def server(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            yield sock

    @staticmethod
    def name(server: socket.socket) -> str:
        return "{}:{}".format(*server.getsockname())

    def answer(self, checks: Checks, server: socket.socket, answer: bytes, expect: str) -> Result:
        checks.start(
            self.name(server), transport="udp", question=single(b"hello", parse_expect(expect))
        )
        data, client = server.recvfrom(100)
        assert data == b"hello"
        server.sendto(answer, client)
        checks.harness.turn_until(lambda: checks.results)
        return checks.results[0]

    def test_the_expected_answer_passes_at_once(
        self, checks: Checks, server: socket.socket
    ) -> None:
        assert self.answer(checks, server, b"well", "we") == PASSED

    def test_another_answer_fails_at_once(self, checks: Checks, server: socket.socket) -> None:
        result = self.answer(checks, server, b"w", "we")
        assert result == Result('the answer is not as expected: "w" came, "we" was expected')

    def test_silence_fails_if_an_answer_is_expected(
        self, checks: Checks, server: socket.socket
    ) -> None:
        result = checks.at_deadline(self.name(server), transport="udp", question=EXPECT_X)
        assert result == Result('no answer in time: nothing came, "x" was expected')

    def test_silence_passes_at_the_deadline_if_none_is_expected(
        self, checks: Checks, server: socket.socket
    ) -> None:
        result = checks.at_deadline(self.name(server), transport="udp")
        assert result == Result(is_silent=True)
        assert server.recv(100) == b""

    def test_an_icmp_message_that_nobody_is_there_fails(self, checks: Checks) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            # On 127.0.0.1 the check might get this very port, and hear itself.
            sock.bind((own_host(), 0))
            name = self.name(sock)
        result = checks.result(name, transport="udp")
        assert result.failure.endswith("failed (111: Connection refused)")
        assert checks.all_is_closed()


class TestExec:
    @staticmethod
    def shell(script: str) -> tuple[str, ...]:
        return ("/bin/sh", "-c", script)

    @pytest.mark.parametrize(
        ("script", "failure"),
        [("exit 0", ""), ("exit 3", "exit status 3"), ("kill -9 $$", "killed by signal 9")],
    )
    def test_the_exit_status_decides(self, checks: Checks, script: str, failure: str) -> None:
        result = checks.result("127.0.0.1:80", transport="exec", command=self.shell(script))
        assert result == Result(failure)
        assert checks.all_is_closed()

    def test_the_program_is_told_the_address_and_its_output_goes_nowhere(
        self, checks: Checks, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        told = tmp_path / "told"
        script = (
            f"echo lost; echo lost >&2; read x; "
            f"echo $NGINY_NAME $NGINY_ADDRESS $NGINY_HOST $NGINY_PORT >{shlex.quote(str(told))}"
        )
        checks.result("[::1]:80", transport="exec", command=self.shell(script))
        assert told.read_text() == "[::1]:80 [::1]:80 ::1 80\n"
        assert capfd.readouterr() == ("", "")

    def test_at_the_deadline_it_is_killed_with_all_that_it_has_started(
        self, harness: Harness, checks: Checks, tmp_path: pathlib.Path
    ) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        watcher = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        script = f"sleep 600 >{shlex.quote(str(fifo))} & wait"
        try:
            checks.start("127.0.0.1:80", transport="exec", command=self.shell(script))
            harness.turn_until(lambda: has_writer(watcher))
            harness.advance(TIMEOUT_MS + 10)
            assert checks.results == [Result("the program did not end in time")]
            harness.turn_until(checks.all_is_closed)
            # The shell's child holds the other end no more.
            harness.turn_until(lambda: not has_writer(watcher))
        finally:
            os.close(watcher)

    def test_a_program_that_is_not_there_fails(self, checks: Checks) -> None:
        result = checks.result("127.0.0.1:80", transport="exec", command=("/no/such/program",))
        text = "cannot run /no/such/program: No such file or directory"
        assert result == Result(text, is_ours=True)

    def test_only_so_many_run_at_a_time(self, harness: Harness, checks: Checks) -> None:
        command = self.shell("exec sleep 600")
        for _ in range(MAX_PROCESSES):
            checks.start("127.0.0.1:80", transport="exec", command=command)
        checks.start("127.0.0.1:80", transport="exec", command=command)
        assert checks.results == [Result("32 programs are already running", is_ours=True)]
        for check in tuple(checks.checker.open):
            assert isinstance(check, ProgramCheck)
            check.cancel()
        harness.turn_until(checks.all_is_closed)
        assert len(checks.results) == 1


def test_one_check_never_waits_for_another(harness: Harness, checks: Checks) -> None:
    full = harness.add(FullPort())
    silent = harness.add(SilentBackend())
    good = harness.add(EchoBackend())
    checks.start(full.name)
    checks.start(silent.name, question=EXPECT_X)
    checks.start("127.0.0.1:1", transport="exec", command=("/bin/sleep", "600"))
    checks.start(good.name)
    harness.turn_until(lambda: checks.results)
    assert checks.results == [PASSED]
    harness.advance(TIMEOUT_MS + 10)
    assert len(checks.results) == 4
    harness.advance(FIN_WAIT_MS + 10)
    harness.turn_until(checks.all_is_closed)


def test_closing_the_checker_leaves_nothing(harness: Harness, checks: Checks) -> None:
    silent = harness.add(SilentBackend())
    checks.start(silent.name, question=EXPECT_X)
    checks.start(silent.name)
    checks.start("127.0.0.1:1", transport="exec", command=("/bin/sleep", "600"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        checks.start(
            f"127.0.0.1:{sock.getsockname()[1]}",
            transport="udp",
            question=EXPECT_X,
        )
    harness.settle()
    checks.checker.close()
    assert checks.all_is_closed()
