"""
Who this guest is and what it has, as the host asks to be sure that no two are the same. Everything is read where the guest's
own programs would read it; what is not there is an empty string or an empty list.
"""
import glob
import hashlib
import json
import os
import time

import network
import resources
from system import read

DHCP_FILES = ('/run/systemd/netif/leases/*', '/var/lib/dhcp/*.leases', '/var/lib/NetworkManager/*.lease')
DHCP_WORDS = ('CLIENTID=', 'dhcp-client-identifier', 'default-duid', 'dhcp6.client-id')
# Where anything of the gate could be found by who looks for it.
GATE_PLACES = ('/run/prebake', '/run/prebake-seed', '/var/lib/cloud/seed/config_drive')
LONGEST_LIST = 60


def answers(instance_id, resumed_at_s, user):
    """`resumed_at_s` is on the boot-time clock; `user` is the image's own, or None."""
    return dict(
        who(instance_id, user), **what(),
        timeMs=time.time_ns() // 1000000,
        survivors=survivors(resumed_at_s),
        leftovers=[place for place in GATE_PLACES if os.path.lexists(place)],
    )


def who(instance_id, user):
    return {
        'hostname': os.uname().nodename,
        'machineId': read('/etc/machine-id'),
        'dbusMachineId': read('/var/lib/dbus/machine-id'),
        'bootId': read('/proc/sys/kernel/random/boot_id'),
        'productUuid': read('/sys/class/dmi/id/product_uuid'),
        'instanceId': instance_id,
        'cloudInstanceId': read('/var/lib/cloud/data/instance-id'),
        'cloudStatus': cloud_status(),
        'hostKeys': keys_in(sorted(glob.glob('/etc/ssh/ssh_host_*_key.pub'))),
        'userKeys': keys_in([user.pw_dir + '/.ssh/authorized_keys']) if user else [],
        'randomSeed': digest_of('/var/lib/systemd/random-seed'),
        'random': os.getrandom(16).hex(),
        'kernelUuid': read('/proc/sys/kernel/random/uuid'),
        'macs': macs(),
        'dhcpIds': dhcp_ids(),
        'journalIds': sorted({os.path.basename(path) for path in glob.glob('/*/log/journal/*')}),
        'invocationIds': invocation_ids(),
    }


def what():
    return {
        'addresses': network.global_addresses(),
        'dnsServers': dns_servers(),
        'vcpus': resources.cpus_online(),
        'memoryMb': resources.memory_mb(),
        'rootBytes': resources.root_disk_bytes(),
        'rootFilesystemBytes': resources.root_filesystem_bytes(),
        'disks': ['%s %d' % disk for disk in resources.disks()],
        'swaps': [line.split()[0] for line in read('/proc/swaps').splitlines()[1:]],
    }


def cloud_status():
    """`running`, `done`, `error`, or nothing when cloud-init has not begun: `cloud-init status` in short."""
    try:
        stages = json.loads(read('/run/cloud-init/status.json'))['v1']
    except (ValueError, KeyError):
        return ''
    found = [stage for stage in stages.values() if isinstance(stage, dict)]
    if any(stage.get('errors') for stage in found):
        return 'error'
    finished = os.path.exists('/run/cloud-init/result.json') and not stages.get('stage')
    return 'done' if finished else 'running'


def keys_in(paths):
    """`type base64` of each public key."""
    lines = [line.split() for path in paths for line in read(path).splitlines() if not line.startswith('#')]
    return [' '.join(words[:2]) for words in lines if len(words) > 1][:LONGEST_LIST]


def digest_of(path):
    try:
        with open(path, 'rb') as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ''


def macs():
    names = [name for name in os.listdir('/sys/class/net') if os.path.exists('/sys/class/net/%s/device' % name)]
    return ['%s %s' % (name, read('/sys/class/net/%s/address' % name)) for name in sorted(names)]


def dhcp_ids():
    """By what the guest's DHCP clients are known to servers."""
    lines = [
        line.strip() for pattern in DHCP_FILES for path in sorted(glob.glob(pattern)) for line in read(path).splitlines()
    ]
    return [line[:200] for line in lines if any(word in line for word in DHCP_WORDS)][:LONGEST_LIST]


def invocation_ids():
    """`unit id` of each service that systemd says is running."""
    found = []
    for path in sorted(glob.glob('/run/systemd/units/invocation:*.service')):
        try:
            found.append('%s %s' % (path.split('invocation:')[1], os.readlink(path)))
        except OSError:
            pass  # it ended at this moment
    return found[:LONGEST_LIST]


def dns_servers():
    lines = read('/run/systemd/resolve/resolv.conf', read('/etc/resolv.conf')).splitlines()
    return [line.split()[1] for line in lines if line.startswith('nameserver ')][:LONGEST_LIST]


def survivors(resumed_at_s):
    """Names of the programs that have been running since before the restore, this one left out."""
    ticks = os.sysconf('SC_CLK_TCK')
    found = set()
    for path in glob.glob('/proc/[0-9]*/stat'):
        text = read(path)
        name, fields = text[text.find('(') + 1:text.rfind(')')], text[text.rfind(')') + 2:].split()
        # Kernel threads are children of process 2.
        if len(fields) < 20 or fields[1] == '2' or text.startswith(('2 ', '%d ' % os.getpid())):
            continue
        if int(fields[19]) / ticks < resumed_at_s:
            found.add(name)
    return sorted(found)[:LONGEST_LIST]
