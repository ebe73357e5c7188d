"""Every kind of facts that a supervisor may ask its workers for, by name.

Tested in tests/run/test_admin_workers.py.
"""

from typing import Final

from nginy.admin.changes.overriding import OVERRIDING
from nginy.admin.facts.backends import BACKENDS, FIRSTS, HEALTH
from nginy.admin.facts.overview import OVERVIEW
from nginy.admin.facts.sessions import KILL, SESSIONS
from nginy.admin.facts.upstreams import LISTENERS, UPSTREAMS
from nginy.admin.lines import LINES
from nginy.admin.loop.tracing import TRACE
from nginy.admin.loop.view import LOOP
from nginy.admin.metrics.measured import MEASURED

SOURCES: Final = {
    source.name: source
    for source in (
        BACKENDS,
        FIRSTS,
        HEALTH,
        KILL,
        LINES,
        LISTENERS,
        LOOP,
        MEASURED,
        OVERRIDING,
        OVERVIEW,
        SESSIONS,
        TRACE,
        UPSTREAMS,
    )
}
