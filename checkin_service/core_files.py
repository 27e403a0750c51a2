"""No core file of this process: it would hold selfies, vectors and keys."""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def leave_no_core_file() -> None:
    """For this process and, as to its limit, for every one that it starts."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # a core pattern that pipes to a program ignores the limit, but not this
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
