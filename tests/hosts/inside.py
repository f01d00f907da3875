"""Pid 1 of a test host, and the way in. Needs nothing but Python: `python -I -S inside.py boot|enter ...`.

A host has network, process, mount, IPC and host name spaces of its own. When its pid 1 dies the kernel kills all that
runs there and takes the network away: a host that lost its power. Pid 1 dies with the test that made it, however that
one ends, so nothing has to be cleaned up.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_SPACES = {"mnt": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "net": 0x40000000, "pid": 0x20000000}


def boot(name: str, disk: str, disk_size: str, memory_size: str, *shared: str) -> None:
    """Make a host and print the process id that its pid 1 has outside.

    Args:
        name: The host's name.
        disk: Folder that the host sees as its own /tmp.
        disk_size: Size of a memory disk to be there instead, such as `64m`; empty for the folder.
        memory_size: Size of the host's /dev/shm.
        shared: Folders that are at the same place on every host.
    """
    _check(_LIBC.unshare(sum(_SPACES.values())))
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        if os.read(reader, 1):
            print(child, flush=True)
        os.waitpid(child, 0)
        return
    os.close(reader)
    _die_with_parent()
    _mount(disk, disk_size, memory_size, shared)
    socket.sethostname(name)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.write(writer, b".")
    os.close(writer)
    _reap()


def _mount(disk: str, disk_size: str, memory_size: str, shared: Sequence[str]) -> None:
    kept = {folder: os.open(folder, os.O_DIRECTORY) for folder in shared}
    small = ["-t", "tmpfs", "-o", f"size={disk_size},mode=1777", "tmpfs"]
    for arguments in (
        ["--make-rprivate", "/"],
        ["-t", "proc", "proc", "/proc"],
        ["-t", "sysfs", "sysfs", "/sys"],
        ["-t", "tmpfs", "-o", f"size={memory_size},mode=1777", "tmpfs", "/dev/shm"],
        [*(small if disk_size else ["--bind", disk]), "/tmp"],
    ):
        subprocess.run(["mount", *arguments], check=True)
    for folder, number in kept.items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        bind = ["mount", "--no-canonicalize", "--bind", f"/proc/self/fd/{number}", folder]
        subprocess.run(bind, check=True, pass_fds=[number])
        os.close(number)


def _reap() -> None:
    """What pid 1 is for."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.05)


def enter(pid: str, command: Sequence[str]) -> int:
    """Run a command on the host whose pid 1 is `pid`; it gets our SIGTERM and SIGINT and does not outlive us."""
    folder = Path.cwd()
    spaces = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in _SPACES]
    for space in spaces:
        _check(_LIBC.setns(space, 0))
        os.close(space)
    os.chdir(folder)
    child = os.fork()
    if not child:
        _die_with_parent()
        os.execvp(command[0], list(command))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(child, number))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _die_with_parent() -> None:
    _check(_LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    if sys.argv[1] == "boot":
        boot(*sys.argv[2:])
    else:
        sys.exit(enter(sys.argv[2], sys.argv[3:]))
