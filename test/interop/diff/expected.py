"""Differences that are meant: (script, step, path of the field, why). Patterns are searched for."""

DIFFERENCES = [
]
