"""The one exception that is meant for a person."""


class TriptychError(Exception):
    """Something a user can mend: bad input, a missing file, a model asked for what it cannot do.

    The message is one line that says what was expected, what came, and what to do. The command line prints it without a
    traceback and exits with 2.
    """
