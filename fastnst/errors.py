"""The one exception that users see as a single line."""


class UserError(Exception):
    """Something the user can put right. The message is one line: what was wrong, and what to do.

    The command line prints it on stderr and exits with status 2 (see `fastnst.cli`).
    """
