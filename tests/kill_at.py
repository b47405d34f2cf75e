"""Kill a process at the n-th thing that it does to files, for scripts of tests: no clock decides when."""

import mmap
import os
import signal
import sys
import traceback
from itertools import count

EVENTS = ('open', 'os.', 'step')
"""Names of what is counted, or how they begin: audit events of Python, and `sys.audit('step')` of a test."""


class Child:
    """Work in a child process, which may be killed at its n-th event.

    Args:
        work: what to do; called without arguments.
        last: the event at which the child is killed; 0 for never.
        group: leader of children that are killed together with this one; None for a group of its own.
    """

    def __init__(self, work, last=0, group=None):
        self._seen = mmap.mmap(-1, 8)  # which both processes share, and which outlives the child
        ready, go = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.setpgid(self.pid, group.pid if group else self.pid)
            self._go = go
            os.close(ready)
            return
        try:
            os.close(go)
            os.read(ready, 1)
            counted = count(1)  # its steps are whole, also where several threads take them

            def watch(event, arguments):
                if event.startswith(EVENTS):
                    number = next(counted)
                    self._seen[:] = number.to_bytes(8, 'big')
                    if number == last:
                        os.killpg(0, signal.SIGKILL)

            sys.addaudithook(watch)
            work()
            sys.stderr.flush()
            os._exit(0)
        except BaseException:  # a child must not go on as its parent
            traceback.print_exc()
        finally:
            os._exit(1)

    def start(self):
        """Let it begin."""
        os.write(self._go, b'.')  # another child may hold this end open as well
        os.close(self._go)
        return self

    def wait(self):
        """Wait for its end: 0, 1 where it failed, or the negative number of the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @property
    def events(self):
        """Events that it has come to, also after its end."""
        return int.from_bytes(self._seen[:], 'big')


def finish(work):
    """Work to the end in a child process; the number of its events."""
    child = Child(work).start()
    if status := child.wait():
        sys.exit(f'a run failed with status {status}')
    return child.events


def kill(work, last):
    """Work in a child process that is killed at an event; whether it came to it."""
    status = Child(work, last).start().wait()
    if status not in (0, -signal.SIGKILL):
        sys.exit(f'a run failed with status {status}')
    return status != 0
