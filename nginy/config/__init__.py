"""The configuration language: a YAML file in, one frozen value out, or every mistake with its
place.

The steps: parse.py turns text into nodes that know their line and column; files.py adds included
files and the environment; record.py and types.py read nodes into values by the table in schema.py;
checking/check.py finds mistakes that span keys (a reference to nothing, an address used twice).
checking/surprises.py warns about probable mistakes. dump.py writes a configuration back, for
`nginy -T`, and building/build.py turns it into running objects.

Not here: how a duration or an address is written (text/), the commands that answer questions about
a configuration (commands/), and anything that runs (process/).

Read first: schema.py, which is the language. A new key is one row there and nothing else.
"""
