"""What the health of a whole group permits: how many may be ejected, and when health is ignored.

Each backend's own health is in `health`; who applies these two rules is `checks/monitor.py`.

The one idea: too few backends are worse than bad ones. So ejection stops at a share of the group,
and under a share that is up (`fail_open`) all that can be tried are tried.

Source: Envoy, outlier detection (max_ejection_percent) and "Panic threshold".
"""

from nginy.backend.health.eject import EjectSettings


def may_eject(settings: EjectSettings, ejected: int, total: int) -> bool:
    """Say whether one more of a group's `total` backends may be ejected beside `ejected` others.

    Never more than max_percent, so a group of one is never emptied at 50 %.
    """
    return (ejected + 1) * 100 <= settings.max_percent * total


def is_fail_open(up: int, total: int, threshold: float) -> bool:
    """Say whether so few of a group are up that health is ignored (`fail_open`).

    `total` counts the backends that nobody has out on purpose: to ignore health would not bring the
    others back. `up` counts those of them that neither a check nor failures of sessions have out.
    The share is compared strictly: at the threshold itself health still counts.
    """
    return total > 0 and up / total < threshold
