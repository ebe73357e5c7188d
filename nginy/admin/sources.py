"""Every kind of facts that a supervisor may ask its workers for, by name.

Tested in tests/run/test_admin_workers.py.
"""

from typing import Final

from nginy.admin.backends import BACKENDS, FIRSTS, HEALTH
from nginy.admin.lines import LINES
from nginy.admin.loop_view import LOOP
from nginy.admin.measured import MEASURED
from nginy.admin.overriding import OVERRIDING
from nginy.admin.overview import OVERVIEW
from nginy.admin.sessions import KILL, SESSIONS
from nginy.admin.tracing import TRACE
from nginy.admin.upstreams import LISTENERS, UPSTREAMS

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
