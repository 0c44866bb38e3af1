"""Take from this process, for good, what no answer to an exercise needs: new processes, the network, endless memory.

Resource limits hold on every Unix. On Linux (x86_64, aarch64) a seccomp filter goes with them: it makes the kernel
refuse new processes and threads, exec, sockets, signals to others, tracing, and a few doors of the kernel's that have
no business being open. It cannot be taken off again, and everything that the process loads or becomes lives under it.

Standard library only: this runs inside the sandbox before anything else.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import platform
import resource
import signal
import struct
from pathlib import Path
from typing import Any

MIB = 1 << 20

# Refused with EPERM, by machine: the numbers of the system calls differ, their meaning does not.
REFUSED = {
    "x86_64": {
        **{"fork": 57, "vfork": 58, "clone": 56, "execve": 59, "execveat": 322, "kill": 62, "tkill": 200},
        **{"tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "ptrace": 101, "process_vm_readv": 310},
        **{"process_vm_writev": 311, "socket": 41, "socketpair": 53, "mount": 165, "umount2": 166, "unshare": 272},
        **{"setns": 308, "pivot_root": 155, "chroot": 161, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323},
        **{"add_key": 248, "request_key": 249, "keyctl": 250, "memfd_create": 319, "shmget": 29, "msgget": 68},
        **{"semget": 64, "mq_open": 240, "setrlimit": 160, "setpriority": 141, "sched_setaffinity": 203},
        **{"sched_setscheduler": 144, "sched_setparam": 142, "sched_setattr": 314, "ioprio_set": 251},
    },
    "aarch64": {
        **{"clone": 220, "execve": 221, "execveat": 281, "kill": 129, "tkill": 130, "tgkill": 131},
        **{"rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "ptrace": 117, "process_vm_readv": 270},
        **{"process_vm_writev": 271, "socket": 198, "socketpair": 199, "mount": 40, "umount2": 39, "unshare": 97},
        **{"setns": 268, "pivot_root": 41, "chroot": 51, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282},
        **{"add_key": 217, "request_key": 218, "keyctl": 219, "memfd_create": 279, "shmget": 194, "msgget": 186},
        **{"semget": 190, "mq_open": 180, "setrlimit": 164, "setpriority": 140, "sched_setaffinity": 122},
        **{"sched_setscheduler": 119, "sched_setparam": 118, "sched_setattr": 274, "ioprio_set": 30},
    },
}
# The same numbers everywhere: pidfd_*, io_uring_*, the new mount calls, clone3, memfd_secret.
REFUSED_EVERYWHERE = (424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 435, 438, 442, 447)
# Refused for some values of the second argument: whom a file's signals go to (F_SETOWN, F_SETSIG, F_SETOWN_EX;
# FIOSETOWN, SIOCSPGRP).
FCNTL, IOCTL = {"x86_64": 72, "aarch64": 25}, {"x86_64": 16, "aarch64": 29}
REFUSED_SECOND = ((FCNTL, (8, 10, 15)), (IOCTL, (0x8901, 0x8902)))
PRLIMIT = {"x86_64": 302, "aarch64": 261}  # looking at a limit is allowed, setting one is not
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32 = 0x40000000

# Of the kernel's classic BPF: load a word, jump if equal, if greater or equal, return.
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
NUMBER, ARCH, SECOND, THIRD = 0, 4, 24, 32  # offsets into the kernel's struct seccomp_data


def confine(*, seconds: float, memory: int, written: int = 0) -> tuple[str, ...]:
    """Confine this process and all its threads, for good.

    Args:
        seconds: of processor time; at the end the kernel kills.
        memory: how many bytes of address space more than now.
        written: how many bytes a file may have that is written to.

    Returns:
        What could not be had on this machine, in words; empty where all holds.
    """
    known = limit_memory(memory)
    _limit(resource.RLIMIT_CPU, int(seconds) + 1)
    _limit(resource.RLIMIT_FSIZE, written)
    _limit(resource.RLIMIT_NOFILE, 128)
    _limit(resource.RLIMIT_CORE, 0)
    missing = [] if known else ["a memory limit above what is in use (there is no /proc)"]
    trouble = _filter_system_calls()
    return tuple(what for what in (*missing, trouble) if what)


def keep_out() -> None:
    """Let no other process of this user read or write this one's memory (Linux); children inherit it."""
    with contextlib.suppress(AttributeError, OSError):
        set_dumpable = 4
        _prctl()(set_dumpable, 0, 0, 0, 0)


def _prctl() -> Any:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    return prctl


def limit_memory(more: int) -> int:
    """Let this process use so many bytes more than now, and no more; how many it used, 0 where nobody knows."""
    now = _address_space()
    if now:
        _limit(resource.RLIMIT_AS, now + more)
    return now


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends (Linux)."""
    with contextlib.suppress(AttributeError, OSError):
        set_pdeathsig = 1
        _prctl()(set_pdeathsig, signal.SIGKILL, 0, 0, 0)


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses some
        resource.setrlimit(what, (value, value))


def _address_space() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _filter_system_calls() -> str:
    """Load the filter; the reason why not, or nothing."""
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in REFUSED:
        return f"a filter of system calls (none is written for {platform.system()} on {machine})"
    program = _program(machine)
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count and a pointer
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    prctl = _prctl()
    no_new_privs, set_seccomp, mode_filter = 38, 22, 2
    block = ctypes.create_string_buffer(header, len(header))
    if prctl(no_new_privs, 1, 0, 0, 0) or prctl(set_seccomp, mode_filter, ctypes.addressof(block), 0, 0):
        return f"a filter of system calls (the kernel says {errno.errorcode.get(ctypes.get_errno(), 'no')})"
    return ""


def _program(machine: str) -> bytes:
    """The filter, eight bytes an instruction. Jumps are relative: (if true, if false) instructions are skipped."""
    steps = [
        (LOAD, 0, 0, ARCH),
        (EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL),  # another instruction set has other numbers
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, KILL),
    ]
    for number in sorted({*REFUSED[machine].values(), *REFUSED_EVERYWHERE}):
        steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    for call, values in REFUSED_SECOND:
        asked = [step for value in values for step in ((EQUAL, 0, 1, value), (RETURN, 0, 0, REFUSE))]
        steps += [(EQUAL, 0, len(asked) + 2, call[machine]), (LOAD, 0, 0, SECOND), *asked, (RETURN, 0, 0, ALLOW)]
    steps += [
        (EQUAL, 0, 4, PRLIMIT[machine]),
        *((LOAD, 0, 0, THIRD), (EQUAL, 0, 3, 0)),
        *((LOAD, 0, 0, THIRD + 4), (EQUAL, 0, 1, 0)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
