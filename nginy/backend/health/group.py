"""Limits for a whole group: how many backends may be ejected, and when health is ignored.

`health` knows one backend. `checks/monitor.py` and `checks/effect.py` apply these two rules to all
of them.

The one idea: too few backends are worse than bad ones. So ejection stops at a share of the group,
and if less than a share is up (`fail_open`), nginy tries all that it can.

Source: Envoy, outlier detection (max_ejection_percent) and "Panic threshold".
"""

from nginy.backend.health.eject import EjectSettings


def may_eject(settings: EjectSettings, ejected: int, total: int) -> bool:
    """Say whether one more of a group's `total` backends may be ejected beside `ejected` others.

    Never more than max_percent, so 50 % never empties a group of one.
    """
    return (ejected + 1) * 100 <= settings.max_percent * total


def is_fail_open(up: int, total: int, threshold: float) -> bool:
    """Say whether so few of a group are up that nginy ignores health (`fail_open`).

    `total` leaves out the backends that are out on purpose: ignoring health would not bring them
    back. `up` counts those of the rest that neither a check nor failures of sessions have out. The
    comparison is strict: at the threshold itself health still counts.
    """
    return total > 0 and up / total < threshold
