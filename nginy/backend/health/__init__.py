"""What is known about a backend, and what follows from it: decisions without a socket or a clock.

`states` is the vocabulary and the one table of transitions. `voices` holds what each cause says at
the moment, and `health` decides what follows from what happens. `schedule` plans the next check,
`eject` and `slow_start` do their arithmetic, `group` sets the limits for all backends together, and
`findings` is what one worker tells another. All of it is pure: a result and the time go in, a
change comes out. `checks/` brings the results and logs the changes.

Read `states` first.
"""
