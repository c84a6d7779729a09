"""Small pieces that every part of the gate needs: files, processes, waiting, and what a step cost."""
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import threading
import time

RNDADDENTROPY = 0x40085203
RNDRESEEDCRNG = 0x5207
# Where one step waits for something outside the guest: a device that is being plugged in.
WAIT_S = 60
ADDR_NO_RANDOMIZE = 0x0040000
PRINTK = '/proc/sys/kernel/printk'
CGROUP_OF_SERVICE = '/sys/fs/cgroup/system.slice/%s.service'
JOURNALD = 'systemd-journald'
FREEZE_TIMEOUT_S = 10


class StepFailed(Exception):
    """A step of sealing or becoming did not work; the host learns its name and the reason."""

    def __init__(self, step, reason):
        Exception.__init__(self, '%s: %s' % (step, reason))
        self.step = step
        self.reason = reason


class Steps:
    """Runs named steps and keeps, for each, its end in milliseconds since the beginning of them all."""

    def __init__(self):
        self.begin = time.monotonic()
        self.ms = {}

    def elapsed_s(self):
        return time.monotonic() - self.begin

    def run(self, name, work, *args):
        try:
            return work(*args)
        except StepFailed:
            raise
        except Exception as error:
            raise StepFailed(name, '%s: %s' % (type(error).__name__, error)) from error
        finally:
            self.ms[name] = round(self.elapsed_s() * 1000)


class Parallel:
    """Steps that run at the same time; join() raises the first failure."""

    def __init__(self, steps):
        self.steps = steps
        self.failures = []
        self.threads = []

    def start(self, name, work, *args):
        thread = threading.Thread(target=self._guard, args=(name, work) + args, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def _guard(self, name, work, *args):
        try:
            self.steps.run(name, work, *args)
        except StepFailed as failure:
            self.failures.append(failure)

    def join(self):
        for thread in self.threads:
            thread.join()
        self.check()

    def check(self):
        if self.failures:
            raise self.failures[0]


class Uevents:
    """The kernel's own events (a device came, a disk grew), so that waiting needs no polling."""

    def __init__(self):
        self.changed = threading.Condition()
        self.count = 0
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15)  # NETLINK_KOBJECT_UEVENT
        self.socket.bind((0, 1))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            try:
                self.socket.recv(8192)
            except OSError:
                pass  # ENOBUFS: some were lost; looking again is all they would have made us do
            with self.changed:
                self.count += 1
                self.changed.notify_all()

    def wait_for(self, condition, what):
        """Returns the first true value of condition(), asked again after each event."""
        end = time.monotonic() + WAIT_S
        while True:
            seen = self.count
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                raise TimeoutError('%s did not arrive within %d s' % (what, WAIT_S))
            with self.changed:
                # Not for ever: some drivers are ready a little after the event that announced their device.
                self.changed.wait_for(lambda: self.count != seen, 0.1)


def wait_until(condition, timeout_s, interval_s=0.01):
    """For what the kernel sends no event about. Returns whether the condition came true."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(interval_s)
    return True


def read(path, default=''):
    try:
        with open(path) as file:
            return file.read().strip()
    except (OSError, ValueError):
        return default


def put(path, data, mode=0o644, uid=0, gid=0):
    """Writes a whole file or none of it."""
    if isinstance(data, str):
        data = data.encode()
    temporary = path + '.prebake'
    descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view):]
        os.fchmod(descriptor, mode)
        if uid or gid:
            os.fchown(descriptor, uid, gid)
    finally:
        os.close(descriptor)
    os.rename(temporary, path)


def write_to(path, value):
    """Writes to a file of the kernel's."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)


def remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass


def randomise_children():
    """
    The gate itself is laid out alike in all bakes (launch.sh): its pages are shared, and anybody could read its layout in a
    clone of their own anyway. What it starts is laid out at random, and hashes by a secret, as any program.
    """
    os.environ.pop('PYTHONHASHSEED', None)
    libc = ctypes.CDLL(None)
    libc.personality(ctypes.c_ulong(libc.personality(ctypes.c_ulong(0xFFFFFFFF)) & ~ADDR_NO_RANDOMIZE))


def run(*argv, timeout_s=120, text=''):
    """Runs a program that reads `text`; returns (exit status, output). Never raises for what the program does."""
    try:
        done = subprocess.run(
            argv, input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s
        )
        return done.returncode, done.stdout.decode(errors='replace').strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)


def names_in(folder):
    """The names in a directory, sorted by a program: so they are allocated in the same order wherever they are listed."""
    return sorted(run('ls', '-A', folder)[1].splitlines())


def must_run(*argv, timeout_s=120):
    status, output = run(*argv, timeout_s=timeout_s)
    if status != 0:
        raise OSError('%s ended with %d: %s' % (argv[0], status, output[-500:]))
    return output


def set_clock(time_ms):
    time.clock_settime_ns(time.CLOCK_REALTIME, time_ms * 1000000)


def reseed(entropy):
    """Gives the kernel's generator fresh entropy and has it forget what all clones share."""
    descriptor = os.open('/dev/urandom', os.O_RDWR)
    try:
        fcntl.ioctl(descriptor, RNDADDENTROPY, struct.pack('ii', len(entropy) * 8, len(entropy)) + entropy)
        fcntl.ioctl(descriptor, RNDRESEEDCRNG)
    finally:
        os.close(descriptor)


class Freezer:
    """
    Stops daemons that would wake up on the clock's step and on every new device, all at the moment when the guest has
    better things to do. They sleep in the µVM and are woken when the clone is ready.
    """

    UNITS = (
        'systemd-resolved', 'systemd-networkd', 'systemd-timesyncd', JOURNALD, 'systemd-logind',
        'systemd-udevd', 'dbus',
    )

    def __init__(self):
        self.printk = None

    def _write(self, value, units=UNITS):
        for unit in units:
            try:
                write_to(CGROUP_OF_SERVICE % unit + '/cgroup.freeze', value)
            except OSError:
                pass  # no such daemon here, or cgroups of the older kind: then it is only slower

    def freeze_journald(self):
        """Ahead of the others. Returns when it is asleep, or cannot be put to sleep."""
        self._write(b'1', (JOURNALD,))
        events = CGROUP_OF_SERVICE % JOURNALD + '/cgroup.events'
        wait_until(lambda: 'frozen 0' not in read(events), FREEZE_TIMEOUT_S)

    def freeze(self):
        self.printk = read(PRINTK).split()[0]
        # What the kernel says about each new device is slow to print on a serial console. It stays in its log.
        write_to(PRINTK, b'1')
        self._write(b'1')

    def thaw(self):
        self._write(b'0')
        if self.printk:
            write_to(PRINTK, self.printk.encode())
            self.printk = None
