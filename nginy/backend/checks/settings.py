"""What the configuration of an upstream says about health, as the checks take it.

`config/building/health.py` makes these settings. `monitor` and `watch` read them, and `effect`
those that concern the whole group.

Tested in tests/config/test_health.py.
"""

from dataclasses import dataclass
from enum import Enum

from nginy.backend.checks.agent import AgentSettings
from nginy.backend.checks.checker import ProbeSettings
from nginy.backend.health.eject import EjectSettings
from nginy.backend.health.schedule import CheckSettings


class OnDown(Enum):
    """What nginy does with the sessions of a backend that goes down: the key `on_down`."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """What the configuration of an upstream says about health.

    `check` and `probe` are both set or both None. `fail_open` is a share of the group, 0 for never.
    `has_weights` is False for methods whose tables must not follow changing weights.
    """

    check: CheckSettings | None = None
    probe: ProbeSettings | None = None
    agent: AgentSettings | None = None
    eject: EjectSettings | None = None
    fail_open: float = 0.0
    on_down: OnDown = OnDown.KEEP
    has_weights: bool = True
