"""The text of --help. Everything that can be typed is in it, and nowhere else.

docopt reads it to parse a command line (`cli.py`), and `usage.py` takes it apart for the manual
page, for shell completion and for messages about mistakes. A command is a line here and a few in
`cli_questions.py`.

Tested in tests/commands/printed/test_usage.py.
"""

from typing import Final

USAGE: Final = """nginy balances TCP and UDP sessions over backends.

Usage:
  nginy [-t | -T | -s SIGNAL] (CONFIG | -c FILE)
  nginy plan [-c FILE] CONFIG
  nginy explain CONFIG LISTENER CLIENT [FIRST]...
  nginy check [-v] CONFIG [UPSTREAM]
  nginy status [--json | --check] (CONFIG | -a ADDRESS [CONFIG])
  nginy (drain|maint|ready) [--wait TIME] [--for TIME] [--reason TEXT] [-a ADDRESS] CONFIG BACKEND
  nginy (drain|maint|ready) [--wait TIME] [--for TIME] [--reason TEXT] -a ADDRESS BACKEND
  nginy sessions [--top BY | --follow | --kill] CONFIG [FILTER ...]
  nginy sessions [--top BY | --follow | --kill] -a ADDRESS [CONFIG] [FILTER ...]
  nginy reload [--dry-run] (CONFIG | -a ADDRESS [CONFIG])
  nginy top [-d SECONDS] [--ascii] (CONFIG | -a ADDRESS [CONFIG])
  nginy trace [--for TIME] [--anonymous] [-o OUT] (CONFIG | -a ADDRESS [CONFIG])
  nginy log [--level LEVEL] [--last COUNT] (CONFIG | -a ADDRESS [CONFIG])
  nginy log --set LEVEL [--for TIME] (CONFIG | -a ADDRESS [CONFIG])
  nginy weight [--for TIME] [--reason TEXT] [-a ADDRESS] CONFIG BACKEND NUMBER
  nginy weight [--for TIME] [--reason TEXT] -a ADDRESS BACKEND NUMBER
  nginy import [-o OUT] [--from PROGRAM] [--strict] FILE
  nginy (-h | -v | -V | --help-config | --man | --completion SHELL)

nginy plan prints what a reload with CONFIG would change, and changes nothing.
nginy reload is -s reload; with --dry-run, the running nginy says what it would change.
nginy explain prints where CONFIG sends a client, such as 10.1.2.3 or 10.1.2.3:5000,
that connects to LISTENER, a name or an address. FIRST is what the client sends first:
sni=NAME, alpn=PROTOCOL,..., starts=BYTES or is_tls=on.
nginy check runs every health check of CONFIG once and prints the results; the exit
status is 0 if all pass. With -v it also prints what was sent and received.
nginy status prints the state of the nginy that runs CONFIG.
nginy drain gives a backend, such as web/10.0.0.1:80, no new sessions and lets the old
ones end.
nginy maint takes a backend out of service and stops its checks.
nginy ready undoes drain and maint.
nginy weight changes the weight of a backend. None of this changes the file: a restart,
or a reload with another value in the file, undoes it.
nginy log prints the last lines of the error log, from memory, or sets its level for
a while: debug, for example, or file for the level in CONFIG.
nginy sessions lists all current sessions, or those that match all filters, such as
client=10.0.0.0/8, backend=10.0.0.1:80, state=established or min_age=10m.
nginy top shows upstreams, listeners, sessions and events on a screen that it redraws
every second; F1 lists its keys.
nginy trace records each turn of the event loop, and what its handlers do, into a file
that https://ui.perfetto.dev and Chrome's about:tracing show.
nginy import turns FILE, a configuration for nginx or HAProxy, into one for nginy, and
reports what differs; the exit status is 0 if nothing does, 3 if something does.

Options:
  -t             Check CONFIG and the files it names, and exit.
  -T             Check CONFIG, print it with every default filled in, and exit.
  -s SIGNAL      Tell the nginy that runs CONFIG to stop, quit, reload, reopen or
                 upgrade. (stop: at once; quit: when sessions have ended; reload:
                 read CONFIG again and print the outcome; reopen: reopen log files
                 and print which could not be opened; upgrade: start the program
                 anew, move all sessions to it and print which could not move.)
  -c FILE        The configuration, as with nginx; for plan, the file to compare
                 with, instead of the running configuration.
  -a ADDRESS     Ask the nginy whose admin interface is at this address, unix:PATH or
                 HOST:PORT. CONFIG is needed only for its token_file.
  --dry-run      Read and check everything, and change nothing.
  --json         Print the answer of the admin interface.
  --check        Print whether nginy is ready, and exit with 0 if it is, 2 if it is
                 not, or 1 if it does not answer.
  --level LEVEL  Print lines of this level and above, from notice upward.
  --last COUNT   Print this many lines instead of 200.
  --set LEVEL    Log from this level upward, for 10m or the time of --for.
  --top BY       Show the twenty sessions with the most bytes, age or idle time.
  --follow       Show sessions as they begin and end, until Ctrl-C.
  --kill         End these sessions.
  -d SECONDS     Redraw the screen at this interval, instead of every second.
  --ascii        Draw it in ASCII only.
  --wait TIME    Return when the last session of the backend has ended, or when it is
                 ready. After TIME, such as 60s, give up with the exit status 2.
  --for TIME     Undo the change after this time; for trace, record for this time
                 (default 5s, at most 60s).
  --anonymous    Leave the addresses of clients out of the trace.
  --reason TEXT  The reason, for the log.
  -o OUT         Write to this file; without it, import writes to standard output, and
                 trace to nginy-trace.json.
  --from PROGRAM
                 The program that FILE is for: nginx or haproxy. By default, nginy
                 recognizes it by its contents.
  --strict       Write nothing if anything differs.
  -v --version   Print the version and exit.
  -V             Print the versions of nginy, Python and PyYAML, and exit.
  --help-config  Print every key that CONFIG may have, and exit.
  --man          Print the manual page nginy(8), and exit.
  --completion SHELL
                 Print the completion script for bash, zsh or fish, and exit.
  -h --help      Print this and exit.
"""
