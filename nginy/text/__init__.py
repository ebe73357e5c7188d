"""Values as people write them: addresses, sizes, durations, times, and text that is safe to print.

- `address` "127.0.0.1:80" and "unix:/run/x" as values
- `units` "1m30s" and "16k" as integers, and back
- `times` the time of a log line, made once a second
- `escape` text of unknown origin, made safe for a line of a log

These are leaves: they import nothing of nginy but the errors they raise, and every module may
import them. `nginy.config` uses them to decide which values a key accepts.
"""
