"""The ring of events: their numbers, what is left of them, and the history of one backend."""

from nginy.admin.events import HISTORY_MAX, KEPT, Events


def change(backend: str, text: str = "refused", kind: str = "state") -> dict[str, object]:
    return {"kind": kind, "text": text, "upstream": "web", "backend": backend}


def test_a_reader_gets_what_came_after_what_it_has() -> None:
    events = Events()
    for number in range(3):
        events.add(number * 1000, {"kind": "reload", "text": f"{number}"})
    assert [each["text"] for each in events.after(1)] == ["1", "2"]
    assert events.after(3) == []
    assert events.after(99) == []
    first = events.after(0, 1)[0]
    assert (first["seq"], first["at"], first["backend"]) == (1, "1970-01-01T00:00:00.000Z", None)


def test_the_ring_forgets_the_oldest() -> None:
    events = Events()
    for number in range(KEPT + 5):
        events.add(0, {"kind": "reload", "text": f"{number}"})
    assert [each["seq"] for each in events.after(0, 2)] == [6, 7]
    assert len(events.after(0)) == KEPT
    assert [each["seq"] for each in events.after(KEPT + 4)] == [KEPT + 5]


def test_a_history_has_the_latest_changes_of_one_backend_first() -> None:
    events = Events()
    for number in range(HISTORY_MAX + 5):
        events.add(number, change("10.0.0.1:80", f"{number}"))
        events.add(number, change("10.0.0.2:80"))
    events.add(0, change("10.0.0.1:80", kind="operator"))
    found = events.history("web", "10.0.0.1:80")
    assert [each["text"] for each in found[:2]] == [f"{HISTORY_MAX + 4}", f"{HISTORY_MAX + 3}"]
    assert len(found) == HISTORY_MAX
    assert events.history("mail", "10.0.0.1:80") == []


def test_an_event_of_a_worker_is_cut_to_what_is_known() -> None:
    events = Events()
    events.add(0, {"kind": "state", "text": "x" * 9000, "evil": 1, "seq": 7})
    [found] = events.after(0)
    assert (found["seq"], len(found["text"])) == (1, 500)
    assert "evil" not in found
