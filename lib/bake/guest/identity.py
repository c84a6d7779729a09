"""
Becoming someone: from the host's message to a guest that differs from all others of its µVM.

First the clock and the kernel's random numbers, alone; then everything else at the same time. What is slow and what the
user asked for beyond this comes later (cloud.py).
"""
import base64
import os
import pwd
import socket

import network
import resources
import spares
import sshd
from system import Parallel, Steps, Uevents, put, read, remove, reseed, set_clock


class Newcomer:
    def __init__(self, sealed, request):
        self.sealed = sealed
        self.request = request
        self.steps = Steps()
        # cloud-init's rule: the name in front of the first dot is the host's.
        self.hostname = request['hostname'].split('.')[0]
        self.disk_grown = False
        # Modules of cloud-init that run when everything else is done.
        self.postponed = []

    def become(self, on_identity, on_ready):
        request = self.request
        self.steps.run('clock', self.take_time_and_entropy)
        events = Uevents()
        who = Parallel(self.steps)
        what = Parallel(self.steps)
        wanted = request['resources']
        # First: the kernel starts processors one after the other and mostly waits for them, and each then helps with the rest.
        what.start('cpus', resources.take_cpus, wanted['vcpus'], events)
        who.start('keys', self.take_host_keys)
        who.start('names', self.take_names)
        who.start('user', self.take_user_keys)
        self.steps.run('resolver', network.take_over, request['interfaces'])
        for number, interface in enumerate(request['interfaces']):
            what.start('nic%d' % number, self.take_nic, number, interface, events)
        what.start('disk', self.take_disk, events)
        what.start('drives', self.take_drives, wanted['disks'], events)
        who.join()
        on_identity(self.steps.ms)
        what.start('memory', resources.take_memory, wanted['hotplugMemoryMb'], self.sealed.memory_blocks, events)
        what.join()
        on_ready({
            'vcpus': resources.cpus_online(),
            'memoryMb': resources.memory_mb(),
            'rootBytes': resources.root_disk_bytes(),
            'stepsMs': self.steps.ms,
        })

    def take_time_and_entropy(self):
        set_clock(self.request['timeMs'])
        reseed(base64.b64decode(self.request['entropy']))

    def take_host_keys(self):
        sshd.write_keys(self.hostname)
        self.sealed.server.take_new_keys()

    def take_names(self):
        machine_id = os.getrandom(16)
        # As systemd makes them: a random UUID of version 4.
        machine_id = bytes(
            (byte & 0x0F) | 0x40 if at == 6 else (byte & 0x3F) | 0x80 if at == 8 else byte
            for at, byte in enumerate(machine_id)
        )
        put('/etc/machine-id', machine_id.hex() + '\n', 0o444)
        if os.path.isdir('/var/lib/dbus') and not os.path.islink('/var/lib/dbus/machine-id'):
            remove('/var/lib/dbus/machine-id')
            os.symlink('/etc/machine-id', '/var/lib/dbus/machine-id')
        socket.sethostname(self.hostname)
        put('/etc/hostname', self.hostname + '\n')

    def take_user_keys(self):
        user = find_user(self.sealed.default_user) if self.sealed.default_user else None
        if user is not None and self.request['publicKeys']:
            write_authorized_keys(user.pw_dir + '/.ssh', self.request['publicKeys'], user)

    def take_nic(self, number, interface, events):
        if number == 0:
            self.sealed.spares.take(spares.NIC)
        network.configure(interface, events)

    def take_drives(self, wanted, events):
        """The config drive comes after the others, as in a cold boot: disks are named in the order in which they come."""
        if wanted:
            resources.take_further_disks(wanted, events)
        if self.request['seed'] is None:
            self.sealed.spares.take(spares.DISK)

    def take_disk(self, events):
        self.disk_grown = resources.take_disk(self.request['resources']['rootBytes'], events)


def find_user(name):
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None  # cloud-init makes whom the image or the server's owner wants


def write_authorized_keys(directory, keys, user):
    """Adds keys to those the image came with, as cloud-init does."""
    try:
        os.mkdir(directory, 0o700)
        os.chown(directory, user.pw_uid, user.pw_gid)
    except FileExistsError:
        pass
    path = directory + '/authorized_keys'
    lines = read(path).splitlines()
    lines += [key for key in keys if key not in lines]
    put(path, '\n'.join(lines) + '\n', 0o600, user.pw_uid, user.pw_gid)
