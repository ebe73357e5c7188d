from kit.harness import Harness
from kit.servers import EchoBackend


def test_what_the_backend_answers_reaches_the_client(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(backend.name))
    client = proxy.connect()
    client.send(b"hello")
    harness.turn_until(lambda: client.received == b"hello")
    client.finish()
    harness.turn_until(lambda: client.has_eof)
    assert proxy.only().termination == "--"
