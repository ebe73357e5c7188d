"""nginy, a layer-4 load balancer: TCP and UDP, one process, one hand-written event loop.

Nothing lives here but the version. The packages below are layers, and each imports only downward:

    cli          the command line
    supervisor   the parent of several workers
    server       one worker's life; log, what it writes
    config       a YAML file into checked settings, and settings into objects
    proxy        one client's exchange, from accept to the reason it ended
    backend      who can serve: identity, counters, health
    event        sockets, readiness, time; beside it wire (bytes into values) and balancer (choices)

The one idea: state machines react to one loop, and every decision is a pure function beside it.
Read first: README.md in this directory, the tour.
"""

__version__ = "0.1.0"
