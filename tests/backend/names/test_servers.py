"""The memory of name servers: which one is asked first, and with what."""

from nginy.backend.names.servers import PLAIN_MS, SILENT_MS, ServerMemory
from nginy.text.address import parse_address

ONE, TWO, THREE = (parse_address(f"10.0.0.{i}:53") for i in (1, 2, 3))


def test_the_order_is_that_of_the_configuration_with_the_silent_last() -> None:
    memory = ServerMemory()
    assert memory.order([ONE, TWO, THREE], 0) == [ONE, TWO, THREE]
    memory.note_silence(ONE, 0, 1000)
    assert memory.order([ONE, TWO, THREE], 1000) == [TWO, THREE, ONE]
    assert memory.order([ONE, TWO, THREE], 1000 + SILENT_MS) == [ONE, TWO, THREE]


def test_an_answer_ends_silence_and_outweighs_a_question_of_before() -> None:
    memory = ServerMemory()
    memory.note_silence(ONE, 0, 1000)
    memory.note_answer(ONE, 1500)
    assert memory.order([ONE, TWO], 1500) == [ONE, TWO]
    memory.note_silence(ONE, 1200, 2000)
    assert memory.order([ONE, TWO], 2000) == [ONE, TWO]


def test_a_server_is_asked_without_edns_for_a_while_once_that_has_helped() -> None:
    memory = ServerMemory()
    assert memory.has_edns(ONE, 0)
    memory.note_plain(ONE, 0)
    assert not memory.has_edns(ONE, PLAIN_MS - 1)
    assert memory.has_edns(TWO, PLAIN_MS - 1)
    assert memory.has_edns(ONE, PLAIN_MS)
