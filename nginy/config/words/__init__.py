"""Words of other programs, so that a message about an unknown key can say what nginy calls it."""
