"""Answers of name servers as one worker tells them to another: to values of JSON, and back.

`queries` decides what to tell and believes what it is told, `checks/relay.py` carries the texts.
The parser checks what comes from another worker as if it came from a stranger: that worker has
heard it from the network.
"""

from typing import Final

from nginy.wire.dns import MAX_TTL_S, MIN_TTL_S, Answer, Outcome, RecordType, Srv

TYPES: Final = (RecordType.A, RecordType.AAAA, RecordType.SRV)


def answer_items(answer: Answer) -> list[object]:
    """Return the items that stand for an answer in a text."""
    services = [[s.priority, s.weight, s.port, s.target] for s in answer.services]
    return [
        answer.outcome.name,
        answer.rcode,
        answer.canonical,
        list(answer.addresses),
        services,
        answer.ttl_s,
    ]


def parse_answer(items: list[object]) -> Answer:
    """Return the answer that `items` stand for; raises ValueError, TypeError or KeyError."""
    outcome, rcode, canonical, addresses, services, ttl_s = items
    return Answer(
        Outcome[text_of(outcome)],
        number_of(rcode),
        text_of(canonical),
        tuple(text_of(address) for address in sequence_of(addresses)),
        tuple(_service(sequence_of(service)) for service in sequence_of(services)),
        min(max(number_of(ttl_s), MIN_TTL_S), MAX_TTL_S),
    )


def parse_type(name: object) -> RecordType:
    """Return a type that one may ask for; raises ValueError, TypeError or KeyError."""
    record_type = RecordType[text_of(name)]
    if record_type not in TYPES:
        raise ValueError(name)
    return record_type


def _service(items: list[object]) -> Srv:
    priority, weight, port, target = items
    return Srv(number_of(priority), number_of(weight), number_of(port), text_of(target))


def text_of(value: object) -> str:
    """Return `value` if it is a text; raises TypeError."""
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def number_of(value: object) -> int:
    """Return `value` if it is a whole number from 0; raises ValueError."""
    if not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value


def sequence_of(value: object) -> list[object]:
    """Return `value` if it is a list; raises TypeError."""
    if not isinstance(value, list):
        raise TypeError(value)
    return value
