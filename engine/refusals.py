"""What a person asked for and cannot have, told apart from a ValueError of Python or of a library, which is a bug."""


class RefusedError(ValueError):
    """What was asked for cannot be; the sentence is for whoever asked."""
