"""What a warm worker may still ask of the kernel: memory, its one socket and the interpreter's files. Nothing else.

Pictures are decoded by libraries written in C. Whoever takes one of them over should find no key file, no database, no
network and no program to start. Two mechanisms of Linux, each of which a process can only tighten (landlock(7),
seccomp(2)); neither needs privileges. Where the kernel has one of them not, the other still holds, and
:func:`confine` says so.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
import sysconfig
from collections.abc import Sequence
from errno import EPERM
from pathlib import Path

MECHANISMS = ("landlock", "seccomp")

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_NO_NEW_PRIVS = 38
_MOST_DESCRIPTORS = 64

# --- Landlock: linux/landlock.h; the numbers of its system calls are the same on every machine ---
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_READ = 1 << 2 | 1 << 3  # files, folders
# By the version that brought them: all that can be done to files by their path, TCP, signals and abstract sockets.
_FILES_SINCE = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_TCP_SINCE = 4
_SCOPES_SINCE = 6

# --- seccomp: linux/seccomp.h, linux/filter.h, linux/audit.h ---
_SECCOMP = 317
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_MACHINE, _AUDIT_ARCH = "x86_64", 0xC000003E
_NUMBER_AT, _ARCH_AT = 0, 4
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | EPERM, 0x80000000
# x86-64's. Not among them: sockets, processes, signals, ioctl, limits, anything that changes a file.
_CALLS = """
    read=0 write=1 readv=19 writev=20 pread64=17 lseek=8 close=3 fstat=5
    sendto=44 recvfrom=45 sendmsg=46 recvmsg=47 poll=7 ppoll=271
    mmap=9 mprotect=10 munmap=11 brk=12 mremap=25 madvise=28
    futex=202 set_robust_list=273 rseq=334 membarrier=324
    rt_sigaction=13 rt_sigprocmask=14 rt_sigreturn=15 sigaltstack=131
    sched_yield=24 sched_getaffinity=204 getcpu=309 nanosleep=35 clock_nanosleep=230
    gettimeofday=96 clock_gettime=228 clock_getres=229 getrusage=98 times=100
    getpid=39 gettid=186 getuid=102 geteuid=107 getgid=104 getegid=108
    uname=63 sysinfo=99 getrandom=318 restart_syscall=219 exit=60 exit_group=231
"""
# For modules that are imported late. Only where Landlock says which files: every other file lies open to its user.
_FILE_CALLS = """
    openat=257 newfstatat=262 statx=332 stat=4 lstat=6 fcntl=72
    getdents64=217 readlink=89 readlinkat=267 getcwd=79
"""


def close_inherited(kept: int) -> None:
    """Close every descriptor but ``kept`` and the three standard ones."""
    os.closerange(3, kept)
    os.closerange(kept + 1, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 20))


def confine() -> tuple[str, ...]:
    """Give up, for good, all that a warm worker does not need. Returns which of :data:`MECHANISMS` are in force.

    Open descriptors stay as they are. Whatever is refused fails with EACCES or EPERM.
    """
    if sys.platform != "linux":
        return ()
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _limit(resource.RLIMIT_NOFILE, _MOST_DESCRIPTORS)
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    landlocked = _landlock(_interpreter_folders())
    filtered = _filter_calls(_CALLS + _FILE_CALLS if landlocked else _CALLS)
    return tuple(name for name, held in zip(MECHANISMS, (landlocked, filtered), strict=True) if held)


def _limit(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _interpreter_folders() -> list[Path]:
    """The standard library, the installed packages and this one; not the folder that this one lies in, which may hold
    a service's data."""
    named = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return [folder for folder in (*map(Path, named), Path(__file__).parent) if folder.is_dir()]


def _landlock(readable: Sequence[Path]) -> bool:
    """Whether from now on no file can be reached by its path but these, to be read, and no TCP port, and no process
    outside by a signal. It binds the calling thread, so there must be no other."""
    version = _call(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    if version < 1 or len(list(Path("/proc/self/task").iterdir())) > 1:
        return False
    files = sum(rights for since, rights in _FILES_SINCE.items() if version >= since)
    handled = [files, 3 * (version >= _TCP_SINCE), 3 * (version >= _SCOPES_SINCE)]
    attributes = struct.pack("=3Q", *handled)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        allowed = all(_allow_reading(ruleset, folder) for folder in readable)
        return allowed and _call(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _allow_reading(ruleset: int, folder: Path) -> bool:
    descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", _READ, descriptor)
        return _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0) == 0
    finally:
        os.close(descriptor)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _filter_calls(allowed: str) -> bool:
    """Whether from now on every system call fails but these (name=number)."""
    if platform.machine() != _MACHINE or sys.maxsize < 1 << 32:
        return False
    numbers = [int(call.partition("=")[2]) for call in allowed.split()]
    instructions = b"".join(struct.pack("=HBBI", *instruction) for instruction in _program(numbers))
    program = _Program(len(instructions) // 8, instructions)
    return _call(_SECCOMP, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)) == 0


def _program(numbers: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """(operation, skipped if true, skipped if not, value) of each instruction. The numbers of x86's other two ways
    into the kernel are none of ours: the 32-bit one is another architecture, x32's have a bit more."""
    return [
        (_LOAD, 0, 0, _ARCH_AT),
        (_JUMP_IF_EQUAL, 1, 0, _AUDIT_ARCH),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        *((_JUMP_IF_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _call(number: int, *arguments: object) -> int:
    wide = (ctypes.c_long(given) if isinstance(given, int) else given for given in arguments)
    return int(_LIBC.syscall(ctypes.c_long(number), *wide))
