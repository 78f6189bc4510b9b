"""The one exception that means: what the user gave cannot be used."""


class InputError(ValueError):
    """Input or arguments that cannot be used.

    The message is one line for the person who reads it: what was wrong, where (file, line, column),
    and what to do. The commands print it and exit with code 2, before any long work starts.
    """
