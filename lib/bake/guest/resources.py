"""What a clone is given beyond the µVM: processors, memory, a larger root disk. Waits for each and takes it into use."""
import ctypes
import fcntl
import os
import struct
import zlib

from system import must_run, read, write_to

CPUS = '/sys/devices/system/cpu'
MEMORY = '/sys/devices/system/memory'
SECTOR = 512
BLKPG = 0x1269
BLKPG_RESIZE_PARTITION = 3
EXT4_IOC_RESIZE_FS = 0x40086610
# Partitions end on a MiB, as every tool makes them.
ALIGN = 2048


def cpus_online():
    return sum(
        int(part.split('-')[-1]) - int(part.split('-')[0]) + 1 for part in read(CPUS + '/online', '0').split(',')
    )


def memory_mb():
    for line in read('/proc/meminfo').splitlines():
        if line.startswith('MemTotal:'):
            return int(line.split()[1]) // 1024
    return 0


def memory_blocks():
    return {name for name in os.listdir(MEMORY) if name.startswith('memory') and name[6:].isdigit()}


def take_cpus(wanted, events):
    def online():
        for name in os.listdir(CPUS):
            if name.startswith('cpu') and name[3:].isdigit() and read('%s/%s/online' % (CPUS, name)) == '0':
                try:
                    write_to('%s/%s/online' % (CPUS, name), b'1')
                except OSError:
                    pass  # its device is not complete yet: the next event asks again
        return cpus_online() >= wanted

    events.wait_for(online, '%d processors' % wanted)


def take_memory(wanted_mb, baked_blocks, events):
    block_mb = int(read(MEMORY + '/block_size_bytes'), 16) >> 20

    def online():
        there = 0
        for name in memory_blocks() - baked_blocks:
            path = '%s/%s/state' % (MEMORY, name)
            if read(path) == 'offline':
                try:
                    write_to(path, b'online_movable')
                except OSError:
                    write_to(path, b'online')
            there += read(path) == 'online'
        return there * block_mb >= wanted_mb

    if wanted_mb:
        events.wait_for(online, '%d MiB of memory' % wanted_mb)


class RootDisk:
    """The device of the root file system: a partition of a disk, a whole disk, or something only other tools know."""

    def __init__(self):
        with open('/proc/self/mountinfo') as file:
            mounts = [line.split() for line in file]
        mount = [fields for fields in mounts if fields[4] == '/'][-1]
        self.filesystem = mount[mount.index('-') + 1]
        device = os.path.realpath('/sys/dev/block/' + mount[2])
        if not os.path.exists(device + '/size'):
            # btrfs and the like give an anonymous device here; the mount's source says which it is.
            source = os.path.realpath(mount[mount.index('-') + 2])
            device = os.path.realpath('/sys/class/block/' + os.path.basename(source))
        self.partition = device if os.path.exists(device + '/partition') else None
        self.disk = os.path.dirname(device) if self.partition else device
        self.path = '/dev/' + os.path.basename(self.disk)
        self.device_path = '/dev/' + os.path.basename(device)

    def bytes(self):
        return int(read(self.disk + '/size', '0')) * SECTOR

    def is_plain(self):
        return os.path.basename(self.disk)[:2] in ('vd', 'sd', 'xv', 'nv')

    def grow_partition(self):
        """Moves the end of the partition to the end of the disk, in its table and in the kernel."""
        number = int(read(self.partition + '/partition'))
        start = int(read(self.partition + '/start'))
        old = int(read(self.partition + '/size'))
        descriptor = os.open(self.path, os.O_RDWR | os.O_SYNC)
        try:
            table = os.pread(descriptor, 2 * SECTOR, 0)
            total = self.bytes() // SECTOR
            gpt = table[SECTOR:SECTOR + 8] == b'EFI PART'
            size = ((total - 34 if gpt else total) - start) // ALIGN * ALIGN
            if size <= old:
                return
            for other in os.listdir(self.disk):
                if int(read('%s/%s/start' % (self.disk, other), '0')) > start:
                    raise ValueError('partition %s lies behind the root' % other)
            if gpt:
                grow_gpt(descriptor, table, total, number, start + size - 1)
            else:
                grow_mbr(descriptor, table, number, start, size)
            record = ctypes.create_string_buffer(struct.pack('=qqi', start * SECTOR, size * SECTOR, number), 152)
            request = struct.pack('iiiiQ', BLKPG_RESIZE_PARTITION, 0, 152, 0, ctypes.addressof(record))
            fcntl.ioctl(descriptor, BLKPG, request)
        finally:
            os.close(descriptor)

    def grow_filesystem(self):
        if self.filesystem == 'ext4':
            size = int(read((self.partition or self.disk) + '/size')) * SECTOR
            root = os.open('/', os.O_RDONLY)
            try:
                fcntl.ioctl(root, EXT4_IOC_RESIZE_FS, struct.pack('=Q', size // os.statvfs('/').f_frsize))
            finally:
                os.close(root)
        elif self.filesystem == 'xfs':
            must_run('xfs_growfs', '/')
        elif self.filesystem == 'btrfs':
            must_run('btrfs', 'filesystem', 'resize', 'max', '/')
        else:
            raise ValueError('no way known to grow %s' % self.filesystem)


def grow_mbr(descriptor, table, number, start, size):
    entry = 446 + 16 * (number - 1)
    if number > 4 or struct.unpack_from('<I', table, entry + 8)[0] != start or size >= 1 << 32:
        raise ValueError('partition %d is not a primary one' % number)
    changed = bytearray(table[:SECTOR])
    struct.pack_into('<I', changed, entry + 12, size)
    os.pwrite(descriptor, bytes(changed), 0)


def grow_gpt(descriptor, table, total, number, last):
    """Rewrites both copies of the table: the backup first, so that one of them is whole at every instant."""
    header = bytearray(table[SECTOR:SECTOR + struct.unpack_from('<I', table, SECTOR + 12)[0]])
    first_entry, count, entry_size = struct.unpack_from('<QII', header, 72)
    entries = bytearray(os.pread(descriptor, count * entry_size, first_entry * SECTOR))
    struct.pack_into('<Q', entries, (number - 1) * entry_size + 40, last)
    sectors = -(-len(entries) // SECTOR)
    struct.pack_into('<I', header, 88, zlib.crc32(entries))

    def sealed(own, other, entries_at):
        copy = bytearray(header)
        struct.pack_into('<QQ', copy, 24, own, other)
        struct.pack_into('<Q', copy, 48, total - sectors - 2)
        struct.pack_into('<Q', copy, 72, entries_at)
        struct.pack_into('<I', copy, 16, 0)
        struct.pack_into('<I', copy, 16, zlib.crc32(copy))
        return bytes(copy)

    os.pwrite(descriptor, bytes(entries), (total - 1 - sectors) * SECTOR)
    os.pwrite(descriptor, sealed(total - 1, 1, total - 1 - sectors), (total - 1) * SECTOR)
    os.pwrite(descriptor, bytes(entries), first_entry * SECTOR)
    os.pwrite(descriptor, sealed(1, total - 1, first_entry), SECTOR)
    protective = bytearray(table[:SECTOR])
    struct.pack_into('<I', protective, 446 + 12, min(total - 1, 0xFFFFFFFF))
    os.pwrite(descriptor, bytes(protective), 0)


def take_disk(wanted_bytes, events):
    """Grows the root to the disk's new size. Returns whether cloud-init need not do it again."""
    root = RootDisk()
    events.wait_for(lambda: root.bytes() >= wanted_bytes, 'a root disk of %d bytes' % wanted_bytes)
    if not root.is_plain():
        return False
    try:
        if root.partition:
            root.grow_partition()
        root.grow_filesystem()
    except (OSError, ValueError):
        return False  # a layout that only the image's own tools know
    return True


def take_further_disks(wanted, events):
    """Waits for the disks beside the root; cloud-init finds them by their labels and takes them into use."""
    root = os.path.basename(RootDisk().disk)

    def missing():
        there = [size for name, size in disks() if name != root]
        return [size for size in wanted if there.count(size) < wanted.count(size)]

    events.wait_for(lambda: not missing(), 'disks of %s bytes' % ', '.join(map(str, wanted)))


def disks():
    """(name, bytes) of each disk."""
    names = [name for name in sorted(os.listdir('/sys/block')) if os.path.exists('/sys/block/%s/device' % name)]
    return [(name, int(read('/sys/block/%s/size' % name, '0')) * SECTOR) for name in names]


def root_disk_bytes():
    return RootDisk().bytes()


def root_filesystem_bytes():
    stat = os.statvfs('/')
    return stat.f_blocks * stat.f_frsize
