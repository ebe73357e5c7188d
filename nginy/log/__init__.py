"""The error log, the access log, and how their lines leave without waiting.

`error_log` and `access_log` make a line; it waits in `file`, and leaves through `output`. A full
disk or a dead syslog server costs lines, which nginy counts, and nothing else. All modules that log
use `levels`, the names of levels, and `limit`, a brake for messages that repeat.

Only `process/` opens logs. All others call ``logging.getLogger("nginy.proxy")`` and the like.
"""
