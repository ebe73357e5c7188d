"""Commands that answer questions about a configuration and serve nobody.

`plan` says what a reload would change, `explain` which way a client would take, and `reference`
prints the table of all keys. All three are pure: configurations in, text out. `running/` has the
commands that ask a running nginy, `printed/` what nginy prints about itself. `cli.py` parses the
command line and prints the text.
"""
