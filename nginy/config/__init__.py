"""The configuration language: a YAML file in, one frozen value out, or every mistake with its
place.

The way of a file: parse.py turns text into nodes that know their line and column; files.py adds
included files and the environment; record.py and types.py read nodes into values by the table in
schema.py; check.py looks at what no single key can know (a reference to nothing, an address used
twice). dump.py is the way back, for `nginy -T`, and build.py makes running objects of the result.

What does not live here: how a duration or an address is written (text/), what answers questions
about a configuration without serving it (commands/), and anything that runs (process/).

Read first: schema.py, which is the language. A new key is one row there and nothing else.
"""
