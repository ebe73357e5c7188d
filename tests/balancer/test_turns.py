"""`Turns` and `LeastTurns` against the plain loops: equal choices, equal numbers in the peers.

The oracle plays one random history on two sets of peers, one chosen from by a plain loop and one by
sorted lists. Mutants, copies of the modules with one mistake each, show that it would notice.
"""

import pathlib
import random
import timeit
import types
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from nginy.balancer import accounts, turns
from nginy.balancer.least import pick_least
from nginy.balancer.peer import failure, success
from nginy.balancer.round_robin import pick_smooth

from kit.peers import FakePeer, peers_of

Pick = Callable[[Sequence[FakePeer], Collection[FakePeer], int], FakePeer | None]

NUMBERS = (
    "current_weight", "effective_weight", "conns", "fails", "accessed_s", "checked_s", "down",
    "weight",
)  # fmt: skip


def least(peers: Sequence[FakePeer], tried: Collection[FakePeer], now_s: int) -> FakePeer | None:
    return pick_least(peers, lambda peer: peer.conns, tried, now_s)


LOOPS: dict[str, Pick] = {"Turns": pick_smooth, "LeastTurns": least}

both = pytest.mark.parametrize("kind", LOOPS)


class History:
    """Two sets of equal peers, to which the same things happen."""

    def __init__(self, kind: str, seed: int, module: types.ModuleType = turns) -> None:
        self.rng = rng = random.Random(f"{kind} {seed}")
        self.loop = LOOPS[kind]
        count = rng.choice((1, 2, 3, 5, 8, 20, 60))
        self.weights = list(
            rng.choice(((1,), (1, 2), (1, 1, 5), range(1, 12), (100, 3), range(1, 101)))
        )
        self.limits = rng.choice(((0,), (0, 0, 3), (2, 5)))
        self.calm = rng.choice((1, 1, 0.1, 0))
        """How likely it is that nothing happens but sessions."""
        made = [
            (rng.choice(self.weights), rng.choice(self.limits), rng.choice((0, 1, 1, 3, 4)))
            for _ in range(count)
        ]
        self.plain, self.sorted = (
            [
                FakePeer(str(place), weight, max_conns=limit, max_fails=fails)
                for place, (weight, limit, fails) in enumerate(made)
            ]
            for _ in range(2)
        )
        if rng.random() < 0.2:
            for peer in (*self.plain, *self.sorted):
                peer.is_shared = kind == "Turns"
        self.turns = getattr(module, kind)(self.sorted)
        self.stranger = FakePeer("of another group")
        self.now_s = 0
        self.busy: list[int] = []
        self.seen: Counter[str] = Counter()

    def change(self, place: int, what: Callable[..., object], *arguments: Any) -> None:
        what(self.plain[place], *arguments)
        what(self.sorted[place], *arguments)
        self.turns.look_at(self.sorted[place])

    def pick(self) -> None:
        rng = self.rng
        count = len(self.plain)
        tried = rng.sample(range(count), min(count, rng.choice((0, 0, 0, 0, 0, 1, 2, count))))
        strangers = [self.stranger] * rng.randrange(2)
        ours = self.turns.pick([self.sorted[place] for place in tried] + strangers, self.now_s)
        theirs = self.loop(self.plain, [self.plain[place] for place in tried], self.now_s)
        assert (ours and ours.name) == (theirs and theirs.name)
        self.seen["picked" if ours else "nobody"] += 1
        if ours is not None and rng.random() < 0.95:  # now and then the session does not begin
            self.busy.append(int(ours.name))
            self.change(self.busy[-1], add_conns, 1)

    def trouble(self, what: float) -> None:
        rng = self.rng
        place = rng.randrange(len(self.plain))
        if what < 0.25:
            self.change(place, failure, self.now_s)
        elif what < 0.45:
            self.change(place, success)
        elif what < 0.60:
            self.change(place, setattr, "down", not self.plain[place].down)
        elif what < 0.75:
            weight = rng.choice(self.weights)
            self.change(place, *rng.choice(((reweigh,), (setattr, "weight"))), weight)
        elif what < 0.80:
            self.change(place, setattr, "max_conns", rng.choice(self.limits))
        else:
            self.now_s += rng.choice((1, 5, 11))

    def step(self) -> None:
        what = self.rng.random()
        if what < 0.6:
            self.pick()
        elif what < 0.8:
            if self.busy:
                place = self.busy.pop(self.rng.randrange(len(self.busy)))
                self.change(place, add_conns, -1)
        elif self.rng.random() >= self.calm:
            self.trouble(self.rng.random())

    def compare(self) -> None:
        """Compare all numbers of all peers."""
        self.turns.write_back()
        for ours, theirs in zip(self.sorted, self.plain, strict=True):
            assert numbers(ours) == numbers(theirs), ours.name

    def play(self, steps: int, compare_every: int = 50) -> None:
        for step in range(1, steps + 1):
            self.step()
            if step % compare_every == 0:
                self.compare()
        self.compare()


def numbers(peer: FakePeer) -> list[int]:
    return [getattr(peer, name) for name in NUMBERS]


def add_conns(peer: FakePeer, count: int) -> None:
    peer.conns += count


def reweigh(peer: FakePeer, weight: int) -> None:
    """As `Backend.reweigh` does."""
    gained = max(weight - peer.weight, 0)
    peer.effective_weight = min(peer.effective_weight + gained, weight)
    peer.weight = weight


@pytest.mark.slow
@both
def test_choices_and_numbers_are_those_of_the_plain_loop(kind: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(60):
        print("seed", seed)
        history = History(kind, seed)
        history.play(400)
        seen += history.seen
    assert seen["picked"] > 5000
    assert seen["nobody"] > 1000


@pytest.mark.slow
@both
def test_a_long_history_that_is_seldom_settled_is_that_of_the_plain_loop(kind: str) -> None:
    for seed in range(1000, 1006):
        print("seed", seed)
        History(kind, seed).play(4000, compare_every=2000)


@both
def test_settling_leaves_everything_as_the_loop_would_have(kind: str) -> None:
    peers, model = peers_of(*[1] * 40), peers_of(*[1] * 40)
    choose = getattr(turns, kind)(peers)
    for _ in range(55):
        choose.pick((), 0)
        LOOPS[kind](model, (), 0)
    choose.write_back()
    assert [numbers(peer) for peer in peers] == [numbers(peer) for peer in model]


def test_a_limit_that_others_count_towards_is_seen_without_notice() -> None:
    """Other workers' sessions change `conns`, and nobody calls `look_at`."""
    peers, model = peers_of(1, 2, 3), peers_of(1, 2, 3)
    for peer in (peers[0], model[0]):
        peer.is_shared = True
        peer.max_conns = 2
    choose = turns.Turns(peers)
    names = []
    for conns in [0] * 9 + [2] * 9 + [1] * 9:
        peers[0].conns = model[0].conns = conns
        ours, theirs = choose.pick((), 0), pick_smooth(model, (), 0)
        assert ours is not None
        assert theirs is not None
        assert ours.name == theirs.name
        names.append(ours.name)
    assert [names[i : i + 9].count(peers[0].name) for i in (0, 9, 18)] == [2, 0, 1]


def cost(choose: turns.Turns[FakePeer]) -> float:
    return min(timeit.repeat(lambda: choose.pick((), 0), number=500, repeat=30))


def test_a_choice_among_a_thousand_takes_little_more_than_among_a_hundred() -> None:
    """The plain loop takes ten times as long for ten times the peers; this one hardly twice."""
    hundred, thousand = (turns.Turns(peers_of(*[1] * count)) for count in (100, 1000))
    hundred.pick((), 0)
    thousand.pick((), 0)
    assert cost(thousand) < 4 * cost(hundred)


# -- the oracle would notice --

MUTANTS = {
    "a tie goes to the last": ("accounts", "- self._places[peer]", "+ self._places[peer]"),
    "nobody pays": ("accounts", "claims.pop() - total * scale", "claims.pop()"),
    "an odd peer pays nothing": ("accounts", "best.current_weight -= total", "pass"),
    "an odd peer does not earn": ("accounts", "peer.current_weight += effective", "pass"),
    "recovery is at once": ("accounts", "min(effective + 1, peer.weight)", "peer.weight"),
    "who leaves takes the account of turn 0 along": ("accounts", "+ weight * self._now)", ")"),
    "who leaves earns on": ("accounts", "self._earning -= weight", "pass"),
    "the tried are picked again": ("turns", "if peer in tried or has_failed", "if has_failed"),
    "a window ends with the next pick": ("turns", "or has_failed(peer, now_s)", ""),
    "a changed weight is not seen": (
        "turns", "rank == (self.load(peer), peer.weight)", "rank[0] == self.load(peer)"
    ),
    "failures are not seen": ("turns", "(0 < peer.max_fails <= peer.fails)", "False"),
    "a full one is not seen": ("turns", "peer.conns < peer.max_conns)", "True)"),
    "no window opens": ("turns", "open_window(best, now_s)", "pass"),
    "a single one pays as well": ("turns", "len(level.standing) + len(tied) == 1", "False"),
    "the most loaded is chosen": ("turns", "least = max(loads)", "least = min(loads)"),
}  # fmt: skip


def mutant(name: str) -> types.ModuleType:
    """A copy of `turns` with one mistake, in itself or in its `accounts`."""
    where, right, wrong = MUTANTS[name]
    made: dict[str, Any] = {}
    for module in (accounts, turns):
        short = module.__name__.rpartition(".")[2]
        source = pathlib.Path(str(module.__file__)).read_text()
        source = source.replace("from nginy.balancer.accounts import Accounts\n", "")
        if short == where:
            assert right in source
            source = source.replace(right, wrong)
        copy = types.ModuleType(f"mutant_{short}")
        copy.__dict__.update(made)
        exec(compile(source, f"{short}.py", "exec"), copy.__dict__)
        made["Accounts"] = copy.__dict__["Accounts"]
    return copy


@pytest.mark.parametrize("name", MUTANTS)
def test_the_oracle_notices_a_mistake(name: str) -> None:
    module = mutant(name)
    for seed in range(60):
        for kind in LOOPS:
            try:
                History(kind, seed, module).play(400)
            except Exception:  # noqa: BLE001 - a mistake may show itself as any error
                return
    pytest.fail("nobody noticed")
