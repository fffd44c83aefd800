"""The versions of the package and of its files: one place for them."""

__version__ = "0.1.0"
FORMAT = 3
"""Of a run's files; 2 has no "fitted", what a codec took from data, 1 has numbers and strings in the place of parts."""
