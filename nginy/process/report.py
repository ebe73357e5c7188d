"""What a reload has come to, told to those who read the log.

Whether it was one process that reloaded or several workers that voted, the words are the same. What
changes between two configurations is found out by `commands/plan.py`; the service manager hears
from `systemd.py`.
"""

import logging
from typing import Final

from nginy.commands.plan import plan
from nginy.config import schema
from nginy.config.surprises import surprises
from nginy.log.levels import NOTICE

logger = logging.getLogger("nginy.server")

CHANGES_LOGGED: Final = 100
"""Of one reload; `nginy plan` shows them all."""


def report_reload(before: schema.Config, config: schema.Config) -> None:
    """Log what a reload has changed, and what of the new configuration may surprise."""
    changes = plan(before, config).changes
    for warning in surprises(config):
        logger.warning("%s", warning)
    for change in changes[:CHANGES_LOGGED]:
        logger.log(NOTICE, "reload: %s", change)
    if len(changes) > CHANGES_LOGGED:
        logger.log(NOTICE, "reload: %d more changes", len(changes) - CHANGES_LOGGED)
    logger.log(NOTICE, "configuration reloaded")


def report_refusal(*problems: str) -> None:
    """Log why a reload has changed nothing."""
    for problem in problems:
        logger.error("%s", problem)
    logger.error("configuration not changed")
