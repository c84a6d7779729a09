"""Who this guest is and what it has, as the host asks to be sure that no two are the same."""
import glob
import os
import time

import network
import resources
from system import read


def answers(instance_id):
    return {
        'hostname': os.uname().nodename,
        'machineId': read('/etc/machine-id'),
        'bootId': read('/proc/sys/kernel/random/boot_id'),
        'instanceId': instance_id,
        'hostKeys': [' '.join(read(path).split()[:2]) for path in sorted(glob.glob('/etc/ssh/ssh_host_*_key.pub'))],
        'addresses': network.global_addresses(),
        'vcpus': resources.cpus_online(),
        'memoryMb': resources.memory_mb(),
        'rootBytes': resources.root_disk_bytes(),
        'rootFilesystemBytes': resources.root_filesystem_bytes(),
        'timeMs': time.time_ns() // 1000000,
        'random': os.getrandom(16).hex(),
    }
