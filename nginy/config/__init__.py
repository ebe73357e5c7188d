"""The configuration language: a YAML file in, one frozen value out, or every mistake with its
place.

The way of a file: parse.py turns text into nodes that know their line and column; files.py adds
included files and the environment; record.py and types.py read nodes into values by the table in
schema.py; check.py looks at what no single key can know (a reference to nothing, an address used
twice). dump.py is the way back, for `nginy -T`; reference.py prints the table for people.
build.py makes running objects of the result. plan.py compares two configurations, explain.py leads
one client through one, and reader.py reads a file while the loop goes on.

What does not live here: how a duration or an address is written (units.py, address.py), and
anything that runs.

Read first: schema.py, which is the language. A new key is one row there and nothing else.
"""
