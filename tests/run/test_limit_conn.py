"""Limits of a whole nginy: a reload keeps what is counted."""

import contextlib
import pathlib
import signal
import socket

from kit.faults import Listening
from kit.program import PATIENCE_S, Nginy, free_port, own_host


def test_a_reload_keeps_the_counts_of_sessions_that_go_on(tmp_path: pathlib.Path) -> None:
    host = own_host()
    port = free_port(host)

    def config(most: int) -> str:
        return f"""
            listeners:
            - listen: {host}:{port}
              proxy_pass: {backend.name}
              limit_conn: {{key: $remote_addr, max: {most}}}
        """

    def connect() -> socket.socket:
        return stack.enter_context(socket.create_connection((host, port), PATIENCE_S))

    with contextlib.ExitStack() as stack:
        backend = Listening()
        stack.callback(backend.close)
        nginy = stack.enter_context(Nginy(tmp_path, config(1)))
        first = connect()
        upstream = backend.accept()
        assert connect().recv(1) == b""
        nginy.write(config(2))
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded")
        connect()
        assert connect().recv(1) == b""
        nginy.said('over limit_conn, 2 sessions at a time in zone ".*remote_addr"')
        first.close()
        upstream.close()
        statuses = [session["status"] for session in nginy.sessions(3)]
        assert statuses == ["503", "503", "200"]
