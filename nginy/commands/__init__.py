"""What nginy answers without serving: questions about a configuration, from the command line.

`plan` says what a reload would change, `explain` which way one client would take, `reference`
prints the table of all keys. All three are pure: configurations in, text out. What was typed, and
where the text goes, is `cli.py`'s affair.
"""
