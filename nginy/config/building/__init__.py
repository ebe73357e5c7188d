"""Building: from a checked configuration to the values and objects of the layers below."""
