"""Backends as the balancing algorithms see them: a Peer and nothing else."""


class FakePeer:
    """A peer that a test sets up and reads as it likes."""

    def __init__(self, name: str, weight: int = 1, **settings: int | bool) -> None:
        self.name = name
        self.weight = self.effective_weight = weight
        self.current_weight = 0
        self.conns = self.max_conns = 0
        self.fails = self.accessed_s = self.checked_s = 0
        self.max_fails = 1
        self.fail_timeout_s = 10
        self.down = False
        self.is_shared = False
        for setting, value in settings.items():
            setattr(self, setting, value)

    def __repr__(self) -> str:
        return f"<FakePeer {self.name} weight={self.weight} conns={self.conns}>"


def peers_of(*weights: int) -> list[FakePeer]:
    """Peers with these weights, and names like 10.0.0.1:8080."""
    return [FakePeer(f"10.0.{i >> 8}.{i & 255}:8080", weight) for i, weight in enumerate(weights)]
