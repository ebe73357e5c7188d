"""nginy, a layer-4 load balancer: TCP and UDP, one process, one hand-written event loop.

Nothing lives here but the version. The packages below are layers, and each imports only downward:

    cli          what was typed, into one action and an exit status
    process      one process's life; with several workers, their parent's
    commands     what nginy answers without serving
    config       a YAML file into checked settings, and settings into objects
    proxy        one client's exchange, from accept to the reason it ended
    backend      who can serve: identity, counters, health
    event        sockets, readiness, time; beside it wire (bytes into values) and balancer (choices)

Beside the layers, log is where lines go, and text and errors are leaves that everyone may use.

The one idea: state machines react to one loop, and every decision is a pure function beside it.
Read first: README.md in this directory, the tour.
"""

__version__ = "0.1.0"
