"""Who can serve: the backends of each upstream, their counters and their health.

What a backend is and how a pool picks one is in `backend` and `pool`, who waits when all are busy
in `waiting`, and what several workers count together in `shared`. Who belongs to a pool is in
`members`, and behind its names are `names`, `resolver` and `exchange`. What is known about a
backend's health is in `states` (the vocabulary and the one table of transitions), `voices` (who
says what at the moment), `health` (what happens, and what follows), `schedule` (when the next check
is due) and `eject` (how long it stays out after failures of sessions). These are pure: no socket,
no clock, no log. What brings them forward, with timers and sockets, is `watch`, `checks` (on
`dialog` and `checks_exec`) and `agent`, and what follows for a pool is `monitor`.

What a session does with a backend is in `nginy.proxy`; the arithmetic of choosing is in
`nginy.balancer`; the bytes of checks and name servers are in `nginy.wire`.

The one idea: causes that may take a backend out (an operator, a check, an agent, the resolver,
failures of sessions) never overwrite each other. Each has a word of its own, and the worst word
counts. See README.md beside this file for the diagram.
"""
