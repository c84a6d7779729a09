"""
Sealing: a booted guest forgets who it was, and gets ready to become someone quickly.

Afterwards nothing of the bake's identity is on the disk, and the code and pages that becoming someone needs are in memory.
"""
import gc
import glob
import mmap
import os
import shutil

import cloud
import identity
import network
import resources
import spares
import sshd
from system import Freezer, Parallel, Steps, Uevents, put, read, remove, run, write_to

# Beyond what the kernel begins to reclaim the page cache at, which holds what clones need.
KEEP_FREE_MB = 1
# What the kernel keeps back for itself, in kB: meanwhile so little, or what the boot left behind in that stays.
MIN_FREE = '/proc/sys/vm/min_free_kbytes'
MIN_FREE_MEANWHILE = b'512'
LOWMEM_RESERVE = '/proc/sys/vm/lowmem_reserve_ratio'
MAP_POPULATE = 0x8000
CLOUD_RUN = '/run/cloud-init'
CLOUD_STATE = '/var/lib/cloud'
CLOUD_CLEANERS = '/etc/cloud/clean.d'
# What ds-identify found. It runs again at every reload of systemd, and without its own note of having run would look for
# a config drive that is not there and turn cloud-init off.
CLOUD_RUN_KEPT = ('cloud.cfg', 'enabled', 'ds-identify.log', '.ds-identify.result')
# The system's own, which draw every random number from the kernel, and those that the gate takes care of.
LEFT_RUNNING = (
    'systemd-', 'dbus', 'ssh.', 'sshd.', 'getty@', 'serial-getty@', 'user@', 'cloud-', 'networking.', 'ifup@', 'prebake-',
)
REHEARSAL = '/run/prebake/rehearsal'

# What the bake's boot left behind; what the image came with stays.
FORGOTTEN = (
    '/etc/netplan/50-cloud-init.yaml', '/etc/network/interfaces.d/50-cloud-init*', '/run/systemd/network/*',
    '/run/systemd/netif/leases/*', '/var/lib/systemd/random-seed', '/var/lib/systemd/credential.secret',
    '/var/lib/systemd/timers/stamp-*', '/var/lib/systemd/timesync/clock', '/var/lib/dhcp/*', '/var/lib/dhclient/*',
    '/var/lib/NetworkManager/*', '/var/lib/dbus/machine-id', '/tmp/*', '/tmp/.[!.]*', '/var/tmp/*',
    '/var/log/cloud-init*',
)
# Daemons hold these open, and expect them.
EMPTIED = (
    '/var/log/wtmp', '/var/log/btmp', '/var/log/lastlog', '/var/log/syslog', '/var/log/messages', '/var/log/auth.log',
    '/var/log/daemon.log', '/var/log/kern.log',
)


class Sealed:
    """What a sealed guest has ready for the one it becomes."""

    def __init__(self):
        self.freezer = Freezer()
        self.server = sshd.Server()
        self.memory_blocks = resources.memory_blocks()
        self.default_user = None
        self.services = []
        self.timers = []
        self.spares = spares.Spares()

    def seal(self, addresses):
        """`addresses` are those of spare devices. Returns the milliseconds of each step."""
        steps = Steps()
        # First: the daemons still react to it.
        steps.run('spares', self.spares.let_go, addresses)
        steps.run('config', self.read_configuration)
        steps.run('services', self.stop_services)
        steps.run('timers', self.stop_timers)
        steps.run('cloud-init', self.forget_cloud_init)
        steps.run('files', self.forget_files)
        steps.run('preload', cloud.preload_rest)
        steps.run('trim', run, 'fstrim', '/')
        steps.run('cache', drop_caches)
        steps.run('daemons', self.settle_daemons)
        steps.run('rehearsal', self.rehearse)
        steps.run('sshd', self.start_sshd)
        self.forget_journal()
        os.sync()
        # What is in memory by now stays: looking for garbage among it would touch every page of it in every clone.
        gc.collect()
        gc.freeze()
        steps.run('zero', zero_free_memory)
        self.freezer.freeze()
        return steps.ms

    def read_configuration(self):
        self.default_user = cloud.default_user()

    def stop_timers(self):
        """A µVM may be weeks old: its timers would all fire at once when a clone gets the time."""
        listed = run('systemctl', 'list-units', '--type=timer', '--state=active', '--no-legend', '--plain')[1]
        self.timers = [line.split()[0] for line in listed.splitlines() if line.strip()]
        if self.timers:
            run('systemctl', 'stop', *self.timers)

    def stop_services(self):
        """
        What the image runs is started anew in each clone: its random numbers would be the same everywhere (those of TLS
        libraries and databases are kept in the process), and a clock that leaps is nothing a job scheduler should see.
        """
        listed = run('systemctl', 'list-units', '--type=service', '--state=running', '--no-legend', '--plain')[1]
        units = [line.split()[0] for line in listed.splitlines() if line.strip()]
        units = [unit for unit in units if not unit.startswith(LEFT_RUNNING)]
        if units:
            triggers = run('systemctl', 'show', '-p', 'TriggeredBy', '--value', *units)[1].split()
            sockets = [unit for unit in triggers if unit.endswith('.socket')]
            self.services = sockets + units
            run('systemctl', 'stop', *self.services)

    def forget_cloud_init(self):
        """What `cloud-init clean` does, without its slow start; its logs are among the files."""
        for name in os.listdir(CLOUD_STATE) if os.path.isdir(CLOUD_STATE) else ():
            if name != 'seed':
                forget(CLOUD_STATE + '/' + name)
        if os.path.isdir(CLOUD_CLEANERS):
            run('run-parts', CLOUD_CLEANERS)
        for name in os.listdir(CLOUD_RUN) if os.path.isdir(CLOUD_RUN) else ():
            if name not in CLOUD_RUN_KEPT:
                forget(CLOUD_RUN + '/' + name)

    def forget_files(self):
        sshd.remove_keys()
        for pattern in FORGOTTEN:
            for path in glob.glob(pattern):
                if not os.path.basename(path).startswith('systemd-private-'):
                    forget(path)
        for path in EMPTIED:
            if os.path.exists(path):
                os.truncate(path, 0)
        # An empty file, where a missing one would make the next boot a first boot in systemd's eyes.
        put('/etc/machine-id', '', 0o444)
        put('/etc/hostname', 'localhost\n')
        run('hostname', 'localhost')
        run('systemctl', 'reset-failed')

    def forget_journal(self):
        """
        Once more at the end: journald goes on writing under the machine-id it has known from its start, and makes that one's
        directory anew for the next line. So it sleeps from here on.
        """
        run('journalctl', '--rotate', '--vacuum-time=1s', '--quiet')
        self.freezer.freeze_journald()
        for path in glob.glob('/var/log/journal/*') + glob.glob('/run/log/journal/*'):
            forget(path)

    def settle_daemons(self):
        """Daemons start anew where they would otherwise carry over what they drew or learned during the bake."""
        if os.path.isdir('/run/systemd/network') or shutil.which('networkctl'):
            network.hold_networkd()
        network.forget_cards()
        run('systemctl', 'try-restart', 'systemd-networkd', 'systemd-resolved', 'systemd-timesyncd')

    def rehearse(self):
        """First use of any code is slow: pages are read from the disk, and an emulated processor translates them."""
        os.makedirs(REHEARSAL, exist_ok=True)
        events = Uevents()
        for _ in range(3):
            together = Parallel(Steps())
            together.start('keys', sshd.write_keys, 'localhost')
            together.start('names', self.rehearse_names)
            together.start('user', self.rehearse_user)
            together.start('networkd', network.networkd_file, REHEARSED_INTERFACE)
            together.start('nic', rehearse_network)
            together.start('disk', resources.take_disk, resources.root_disk_bytes(), events)
            together.start('memory', resources.take_memory, 1, set(), events)
            together.start('cpus', resources.take_cpus, 1, events)
            together.join()
        run('networkctl', 'reload')
        shutil.rmtree(REHEARSAL, ignore_errors=True)

    def rehearse_names(self):
        put(REHEARSAL + '/name', os.getrandom(16).hex())
        read(REHEARSAL + '/name')

    def rehearse_user(self):
        identity.write_authorized_keys(REHEARSAL, ['rehearsal'], identity.find_user(self.default_user or 'root'))

    def start_sshd(self):
        self.server.start_and_rehearse()
        self.server.hold()


REHEARSED_INTERFACE = {
    'mac': '00:00:00:00:00:00', 'mtu': 65536, 'addresses': ['127.0.0.1/8'], 'dhcp4': True, 'dhcp6': False,
    'routes': [], 'dns': ['127.0.0.1'],
}


def rehearse_network():
    """The loopback interface, set to what it is."""
    network.predictable_name('lo')
    with network.Netlink() as netlink:
        netlink.link(1, mtu=65536, up=True)
    network.global_addresses()


def forget(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        remove(path)


def drop_caches():
    os.sync()
    for path, value in (('/proc/sys/vm/drop_caches', '3'), ('/proc/sys/vm/compact_memory', '1')):
        with open(path, 'w') as file:
            file.write(value)


def zero_free_memory():
    """
    Takes the free memory, which the kernel hands out zeroed, and gives it back: zero pages cost a µVM nothing. The lowest
    16 MiB, where the boot loader left the compressed kernel, are otherwise kept for devices that reach no other.
    """
    for shrink in glob.glob('/sys/kernel/slab/*/shrink'):
        write_to(shrink, b'1')
    reserve, kept_back = read(LOWMEM_RESERVE), read(MIN_FREE)
    write_to(LOWMEM_RESERVE, b' '.join(b'0' for _ in reserve.split()))
    write_to(MIN_FREE, MIN_FREE_MEANWHILE)
    taken = []
    keep_mb = KEEP_FREE_MB + reclaim_begins_mb()
    while True:
        free = int([line for line in read('/proc/meminfo').splitlines() if line.startswith('MemFree')][0].split()[1])
        size_mb = min(64, free // 1024 - keep_mb)
        if size_mb < 1:
            break
        taken.append(mmap.mmap(-1, size_mb << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_POPULATE))
    for block in taken:
        block.close()
    write_to(MIN_FREE, kept_back.encode())
    write_to(LOWMEM_RESERVE, reserve.encode())


def reclaim_begins_mb():
    """With less than this free in all zones, the kernel looks for more."""
    lines = [line.split() for line in read('/proc/zoneinfo').splitlines()]
    pages = sum(int(words[1]) for words in lines if len(words) == 2 and words[0] == 'low')
    return -(-pages * mmap.PAGESIZE >> 20)
