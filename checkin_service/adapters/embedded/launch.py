"""Becomes a server: the short program between the service and postgres or valkey-server.

    python -I -S launch.py PARENT_PID DEATH_SIGNAL UID GID PROGRAM [ARGUMENT…]

It gives up root, asks the kernel for DEATH_SIGNAL when its parent ends, and turns into PROGRAM. A program
of its own rather than `preexec_fn` and `user=` of `subprocess`: Python code between fork and exec can
deadlock once threads exist (numpy's BLAS starts some), and Python 3.12 warns of it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
# Nothing of the service's environment: it holds secrets, and PG… and LC_… variables would change the server.
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"}


def main(parent_pid: int, death_signal: int, uid: int, gid: int, command: list[str]) -> None:
    if os.geteuid() != uid:
        give_up_root(uid, gid)
    end_with_parent(parent_pid, death_signal)
    os.umask(0o077)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores these two, and exec would hand that on
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execve(command[0], command, ENVIRONMENT)  # noqa: S606  to become the server is the purpose


def give_up_root(uid: int, gid: int) -> None:
    os.setgroups([])  # root's supplementary groups would open files that are not nobody's
    os.setgid(gid)
    os.setuid(uid)


def end_with_parent(parent_pid: int, death_signal: int) -> None:
    # After the change of user, which clears this setting.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        sys.exit("the service ended before its server started")


if __name__ == "__main__":
    parent_pid, death_signal, uid, gid = map(int, sys.argv[1:5])
    main(parent_pid, death_signal, uid, gid, sys.argv[5:])
