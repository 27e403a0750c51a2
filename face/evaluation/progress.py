"""How far a command has come, on stderr."""

import sys

_SHOWN_EVERY = 50


def show_progress(done: int, of: int) -> None:
    """A line for every 50th photograph and for the last."""
    if done % _SHOWN_EVERY == 0 or done == of:
        sys.stderr.write(f"{done} of {of} photographs described\n")
