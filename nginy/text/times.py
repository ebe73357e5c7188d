"""Times as text for the logs, made at most once a second.

`TimeText` holds the forms that log lines need: the error log's, nginx's ``$time_local`` and
``$time_iso8601``, and the one of the syslog protocol. A busy balancer writes thousands of lines in
a second with the same time, so the text is made once, when the second changes, and is an attribute
that costs nothing to read.

It reads no clock: the caller passes the seconds since the epoch, and the time zone is that of the
process (``time.localtime``). Durations and deadlines are integers of `event/clock.py`.

Source: nginx ngx_times.c ngx_time_update.
"""

from __future__ import annotations

import time
from typing import Final

# Not strftime's %b: that follows the locale, and these two formats are English (RFC 3164 §4.1.2).
_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)


class TimeText:
    """The current second in every form a log wants; valid for the last `update`.

    Attributes
    - error_log: ``2026/11/23 19:35:01``
    - local: ``23/Nov/2026:19:35:01 +0100``, nginx's ``$time_local``
    - iso8601: ``2026-11-23T19:35:01+01:00``, nginx's ``$time_iso8601``
    - syslog: ``Nov 23 19:35:01``, the day padded with a space
    """

    __slots__ = ("_second", "error_log", "iso8601", "local", "syslog")

    def __init__(self, now_s: float) -> None:
        self._second: int | None = None
        self.error_log = self.local = self.iso8601 = self.syslog = ""
        self.update(now_s)

    def update(self, now_s: float) -> None:
        """Make the texts those of `now_s`, wall time in seconds; fractions are cut off."""
        second = int(now_s)
        if second == self._second:
            return
        self._second = second
        t = time.localtime(second)
        clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
        month = _MONTHS[t.tm_mon - 1]
        sign = "-" if t.tm_gmtoff < 0 else "+"
        zone_h, zone_m = divmod(abs(t.tm_gmtoff) // 60, 60)
        self.error_log = f"{t.tm_year}/{t.tm_mon:02}/{t.tm_mday:02} {clock}"
        self.local = f"{t.tm_mday:02}/{month}/{t.tm_year}:{clock} {sign}{zone_h:02}{zone_m:02}"
        self.iso8601 = (
            f"{t.tm_year}-{t.tm_mon:02}-{t.tm_mday:02}T{clock}{sign}{zone_h:02}:{zone_m:02}"
        )
        self.syslog = f"{month} {t.tm_mday:2} {clock}"


def utc_text(wall_ms: int) -> str:
    """Return a time in milliseconds since 1970 as ``2026-11-23T18:35:01.250Z`` (ISO 8601)."""
    second, ms = divmod(wall_ms, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{ms:03}Z"
