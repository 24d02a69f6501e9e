"""The one exception that means: the caller asked for something that cannot be done."""


class UserError(ValueError):
    """A mistake in what was given: an argument, a configuration key, a file.

    The message is one that a user can act on: what was given, what is allowed, how to mend it. The
    command line prints it without a traceback and exits with status 2.
    """


class WorkerDied(RuntimeError):
    """A worker process ended without an answer: killed, out of memory, or crashed inside a library."""
