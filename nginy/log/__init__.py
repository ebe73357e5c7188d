"""What nginy writes down: the error log, the access log, and how a line leaves without waiting.

A line is made in `error_log` or `access_log`, waits in `file`, and leaves through `output`. A full
disk or a dead syslog server costs lines, which are counted, and nothing else. `levels` and `limit`
are for those who log: names of levels, and a brake for messages that repeat.

Only `process/` opens logs. Everyone else calls ``logging.getLogger("nginy.proxy")`` and the like.
"""
