"""Which errors are for the user, and how they are said: one line, no trace."""

import sys

NEGATIVE = 1
"""Exit code of a command that ran and whose answer is no, such as `doctor` without weights."""
MISTAKE = 2
"""Exit code for what the user can put right."""
PARTIAL = 3
"""Exit code of a command that did its work for some images and left others alone, named."""
STOPPED = 130
"""Exit code after Ctrl-C."""
BROKEN_PIPE = 141
"""Exit code when whoever read the output (`| head`) has gone."""


class UserError(ValueError):
    """A mistake on the command line; the text says what to do."""


def is_for_user(error: BaseException) -> bool:
    """Whether an error's text says what to do; anything else is a fault and wants its trace.

    That holds for our own errors, for every ValueError (the rule here: `raise` for users,
    `assert` for our own invariants), and for what the system says about files.
    """
    ours = type(error).__module__.split(".")[0] in ("fmbseg", "tasks", "flows")
    return isinstance(error, ValueError | OSError) or (ours and isinstance(error, Exception))


def one_line(error: BaseException) -> str:
    """An error's text on one line, control characters shown as escapes.

    What the system says of a file begins with the file, as our own errors do.
    """
    from fmbseg.store.names import printable  # the console script answers --help without it

    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.filename}: {error.strerror.lower()}"
    return printable(" ".join(text.split())) or type(error).__name__


def say(who: str, error: Exception) -> int:
    """Say on standard error what the user can put right; an error that is a fault is raised.

    Args:
        who: begins the line.
        error: under way: to be called where it was caught.

    Returns:
        The exit code MISTAKE.
    """
    if not is_for_user(error):
        raise error
    print(f"{who}: {one_line(error)}", file=sys.stderr)
    return MISTAKE
