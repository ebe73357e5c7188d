"""The turns of the event loop, recorded for a while: as a picture at `/loop`, and as a trace.

`recording.py` records them for as long as the page or a trace needs them. `view.py` makes facts of
them, `page.py` shows those, and `tracing.py` answers with a trace of all processes.
"""
