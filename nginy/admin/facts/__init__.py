"""What the admin interface knows: facts of each kind, collected here or from several workers.

A kind is a `Source` (`source.py`): how to collect it in one process, the shape that a worker's
report must have (`shape.py`), and how several reports become one answer (`merge.py`). Facts are
collected in slices. Not here: how they look, which is for `page/`, `metrics/` and the answers.
"""
