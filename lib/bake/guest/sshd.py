"""
Host keys and the SSH server.

The server is started when the guest is baked, and waits in the µVM, in the middle of starting over, for its host keys: a
fresh start takes a second or more. It listens, and the clone has a network, only when it has keys that are the clone's own.
"""
import os
import signal
import socket

from system import must_run, put, read, remove, run, wait_until

try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
except ImportError:
    serialization = None  # ssh-keygen makes the keys then, ten times slower

KEY_TYPES = ('ed25519', 'ecdsa')
# Made after everything else: it takes seconds, and no client insists on it.
LATE_KEY_TYPE = 'rsa'
# The order of NIST's P-256: private keys are below it.
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
UNITS = ('ssh.service', 'sshd.service')
PORT = 22
ESTABLISHED = '01'
PID_FILE = '/run/sshd.pid'
# For the server to get from the start to its keys, while it is baked.
HOLD_S = 30
# Primes are a matter of luck, and others go first.
KEY_TIMEOUT_S = 900


def has_connections():
    """Whether anybody is connected to the port."""
    lines = read('/proc/net/tcp').splitlines() + read('/proc/net/tcp6').splitlines()
    rows = [line.split() for line in lines]
    return any(row[1].endswith(':%04X' % PORT) and row[3] == ESTABLISHED for row in rows if len(row) > 3)


def key_path(kind):
    return '/etc/ssh/ssh_host_%s_key' % kind


def make_key(kind):
    """
    (private, public) in OpenSSH's formats. The secret comes from the kernel, which has been reseeded: a generator in this
    process's memory (OpenSSL's) would draw the same numbers in every clone.
    """
    if kind == 'ed25519':
        key = ed25519.Ed25519PrivateKey.from_private_bytes(os.getrandom(32))
    else:
        key = ec.derive_private_key(int.from_bytes(os.getrandom(48), 'big') % (P256_ORDER - 1) + 1, ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private, public


def write_keys(hostname):
    if not os.path.isdir('/etc/ssh'):
        return
    for kind in KEY_TYPES:
        if serialization is None:
            generate(kind, hostname)
            continue
        private, public = make_key(kind)
        put(key_path(kind), private, 0o600)
        put(key_path(kind) + '.pub', public + b' root@' + hostname.encode() + b'\n')


def generate(kind, hostname, *prefix):
    """The slow way, with the image's own program; it draws its random numbers anew."""
    remove(key_path(kind))
    remove(key_path(kind) + '.pub')
    command = ('ssh-keygen', '-q', '-t', kind, '-N', '', '-C', 'root@' + hostname, '-f', key_path(kind))
    must_run(*prefix, *command, timeout_s=KEY_TIMEOUT_S)


def remove_keys():
    for name in os.listdir('/etc/ssh') if os.path.isdir('/etc/ssh') else ():
        if name.startswith('ssh_host_') and (name.endswith('_key') or name.endswith('_key.pub')):
            remove('/etc/ssh/' + name)


class Server:
    """The SSH server of this image, as systemd knows it; `unit` is None where there is none to take care of."""

    def __init__(self):
        self.unit = None
        self.pid = 0
        self.key_pipe = None

    def start_and_rehearse(self):
        """Starts it with the keys that are there and has it start over, so that doing so is fast later."""
        for unit in UNITS:
            if run('systemctl', 'is-enabled', unit)[0] != 0:
                continue
            self.unit = unit
            run('systemctl', 'restart', unit)
            self.pid = int(run('systemctl', 'show', '-p', 'MainPID', '--value', unit)[1] or 0)
            if not self.pid or read(PID_FILE) != str(self.pid):
                self.pid = 0  # no sign to wait for: it is restarted instead
                return
            self.take_new_keys()
            with socket.create_connection(('127.0.0.1', PORT), 30) as connection:
                connection.recv(64)
            return

    def hold(self):
        """
        Has it start over once more, up to where it reads its first host key: that one is a pipe, which nothing comes out of
        before the clone has keys. Where it does not wait there, it goes on running with the keys it knows.
        """
        remove_keys()
        if not self.pid:
            return
        pipe = key_path(LATE_KEY_TYPE)
        os.mkfifo(pipe, 0o600)
        try:
            os.kill(self.pid, signal.SIGHUP)
            if not wait_until(lambda: self.has_opened(pipe), HOLD_S, 0.05):
                self.pid = 0
        finally:
            remove(pipe)
        if not self.pid:
            write_keys('localhost')
            run('systemctl', 'restart', self.unit)
            remove_keys()

    def has_opened(self, pipe):
        try:
            # Works only when there is a reader, who then waits for what we write.
            self.key_pipe = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        return True

    def take_new_keys(self):
        """Returns when the server listens with the keys that are now in /etc/ssh."""
        if self.unit is None:
            return
        if not self.pid:
            must_run('systemctl', 'restart', self.unit)
            return
        # The server writes this file once it listens; nothing else tells the old life from the new.
        remove(PID_FILE)
        if self.key_pipe is None:
            os.kill(self.pid, signal.SIGHUP)
        else:
            os.close(self.key_pipe)
            self.key_pipe = None
        if not wait_until(lambda: read(PID_FILE) == str(self.pid), 30, 0.004):
            raise TimeoutError('the SSH server did not come back')

    def add_late_key(self, hostname):
        """A key that the user brought, or told cloud-init to make, stays."""
        if self.unit is not None and not os.path.exists(key_path(LATE_KEY_TYPE)):
            generate(LATE_KEY_TYPE, hostname, 'nice')
