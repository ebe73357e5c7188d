"""What is known about a backend, and what follows from it: decisions without a socket or a clock.

`states` is the vocabulary and the one table of transitions, `voices` what each cause says at the
moment, `health` what happens to a backend and what follows, `schedule` when the next check is due,
`eject` how long a backend stays out after failures of its sessions. All of it is pure: a result and
the time go in, a change comes out. Who brings the results and logs the changes is `checks/`.

Read `states` first.
"""
