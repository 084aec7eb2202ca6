"""Become COMMAND, but die with the parent: `python -I -S leash.py PARENT USER COMMAND...`.

On Linux the kernel sends SIGKILL to the command the moment the process (strictly: the thread) that started it is gone,
whatever took it away. Elsewhere a killed owner leaves its servers behind; a normal exit stops them everywhere.
This is a program of its own because Python offers no safe way to run code between fork and exec.
USER is empty or the account to become; the kernel forgets the leash on a change of account, hence the order.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, user, *command = sys.argv[1:]
    if user:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != int(parent):  # it died before the leash was on
            sys.exit("the parent is gone")
    os.execv(command[0], command)  # noqa: S606 - the caller's own argument list, no shell


if __name__ == "__main__":
    main()
