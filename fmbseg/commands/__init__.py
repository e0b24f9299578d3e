"""What each sub-command of the console script does, one file a command."""


class UserError(ValueError):
    """A mistake on the command line; the text says what to do."""
