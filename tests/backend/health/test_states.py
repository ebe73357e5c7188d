"""The table of transitions, its diagram, and the voices that follow it."""

import itertools
from pathlib import Path

import nginy.backend
import pytest
from nginy.backend.health.states import (
    FIRST_WORDS,
    LOOKUP,
    TRANSITIONS,
    Cause,
    Needs,
    State,
    Trigger,
    diagram,
)
from nginy.backend.health.voices import Voices

README = Path(nginy.backend.__file__).with_name("README.md")
ALL_NEEDS = tuple(Needs)


def test_the_diagram_of_the_readme_is_drawn_from_the_table():
    blocks = README.read_text(encoding="utf-8").split("```")[1::2]
    assert blocks == [f"mermaid\n{diagram()}\n"]


def test_the_readme_lists_the_states_in_their_order():
    order = " < ".join(str(state) for state in sorted(State))
    assert f"    {order}\n" in README.read_text(encoding="utf-8")


def test_no_two_transitions_contradict_each_other():
    assert len(LOOKUP) == len(TRANSITIONS)


def test_every_transition_leads_somewhere_else():
    assert all(t.before is not t.after for t in TRANSITIONS)


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.NAME])
def test_every_word_can_be_reached_and_taken_back(cause):
    edges = [(t.before, t.after) for t in TRANSITIONS if t.cause is cause]
    words = {word for edge in edges for word in edge}
    for start in words:
        reached = {start}
        for _ in words:
            reached |= {after for before, after in edges if before in reached}
        assert reached >= words - {State.CHECKING}
    assert set(FIRST_WORDS[cause]) <= words


def test_every_state_and_every_event_is_used():
    firsts = {word for words in FIRST_WORDS.values() for word in words}
    assert {t.after for t in TRANSITIONS} | firsts == set(State)
    assert {t.trigger for t in TRANSITIONS} == set(Trigger)


def test_a_state_is_written_in_lower_case():
    assert f"{State.UNRESOLVED}" == "unresolved"


def test_the_word_of_a_name_never_changes():
    assert Cause.NAME not in {t.cause for t in TRANSITIONS}


def test_nobody_objects_at_first():
    voices = Voices()
    assert (voices.state, voices.reason, voices.are_deliberate) == (State.UP, "", False)


@pytest.mark.parametrize(
    "transition", TRANSITIONS, ids=lambda t: f"{t.cause.value}:{t.trigger.value}"
)
def test_a_voice_follows_the_table_and_no_other_voice_moves(transition):
    voices = Voices()
    voices.set(transition.cause, transition.before, "before")
    assert voices.tell(transition.cause, transition.trigger, "told", ALL_NEEDS)
    words = {cause: voices.word(cause) for cause in Cause}
    assert words == dict.fromkeys(Cause, State.UP) | {transition.cause: transition.after}


@pytest.mark.parametrize("cause", Cause)
def test_what_is_not_in_the_table_moves_nothing(cause):
    for word, event in itertools.product(State, Trigger):
        if (cause, word, event) in LOOKUP:
            continue
        voices = Voices()
        voices.set(cause, word, "before")
        assert not voices.tell(cause, event, "told", ALL_NEEDS)
        assert (voices.word(cause), voices.state) == (word, word)


@pytest.mark.parametrize("transition", [t for t in TRANSITIONS if t.needs is not Needs.ONE])
def test_a_voice_waits_for_enough_results_in_a_row(transition):
    voices = Voices()
    voices.set(transition.cause, transition.before, "before")
    assert not voices.tell(transition.cause, transition.trigger, "told")
    assert voices.word(transition.cause) is transition.before


WORDS = {
    cause: sorted({t.after for t in TRANSITIONS if t.cause is cause} | {*FIRST_WORDS[cause]})
    for cause in Cause
}


def test_whatever_is_said_together_the_worst_word_is_the_state_and_its_reason_is_shown():
    combinations = list(itertools.product(*WORDS.values()))
    assert len(combinations) == 3 * 3 * 2 * 2 * 2 * 3 * 2
    for words in combinations:
        voices = Voices()
        for cause, word in zip(Cause, words, strict=True):
            voices.set(cause, word, f"{cause.value} says {word}")
        assert voices.state is max(words)
        assert voices.reason == f"{voices.worst.value} says {max(words)}"
        assert voices.are_deliberate == any(
            word in (State.DRAINING, State.UNRESOLVED, State.MAINTENANCE) for word in words
        )
