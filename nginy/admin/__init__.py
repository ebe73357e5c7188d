"""The admin interface: what nginy tells about itself, over HTTP, on a listener of its own.

`server.py` is the one to read: it takes requests from clients (`client.py`), asks the guard
(`guard.py`) whether they may ask, finds their route (`routes.py`) and makes answers in slices, one
a turn of the loop. Answers take what they say from the `Subject` (`subject.py`), which is all that
the package knows of the process around it.

Five rooms: `facts/` collects what is known, `changes/` has what operators set, and `metrics/`,
`page/` and `loop/` show facts, to Prometheus, to a browser and as the turns of the loop.

The one idea: the data path never waits. A turn does one slice of one answer, after everything that
nginy's clients need; clients, answers and their bytes are bounded in number; and nothing here has a
timer while nobody asks.

Nothing below imports this package. `process/admin.py` opens its listeners.
"""
