"""
Where cloud-init asks other programs what the gate knows, or has them do what the gate has done: in a clone it is told at
once. Each shortcut is taken only where this version of cloud-init has the function it replaces.
"""
import glob
import importlib
import os
import shutil

from system import read

CONFIG_DRIVE_LABELS = (b'config-2', b'CONFIG-2')
# Offset of the volume label in ISO 9660 and in both kinds of FAT.
LABEL_OFFSETS = (32808, 43, 71)

known = {}


def module(name):
    try:
        return importlib.import_module(name)
    except Exception:
        return None


def prepare():
    """When the guest is baked: asks once what is the same in all clones."""
    netplan = module('cloudinit.net.netplan')
    try:
        known['netplan features'] = list(netplan.Renderer({}).features)
    except Exception:
        known.pop('netplan features', None)
    util = module('cloudinit.util')
    # These remember their answers by themselves, one for each way of being asked.
    for name in ('lsb_release', 'get_dpkg_architecture', 'get_linux_distro', 'is_container'):
        for args, more in (((), {}), ((None,), {}), ((), {'target': None})):
            try:
                getattr(util, name)(*args, **more)
            except Exception:
                pass


def take(postpone):
    """In the clone's process for cloud-init. Modules whose name is given to `postpone` have not been run."""
    drive = module('cloudinit.sources.DataSourceConfigDrive')
    if hasattr(drive, 'find_candidate_devs'):
        ask = drive.find_candidate_devs
        drive.find_candidate_devs = lambda *args, **more: config_drives() or ask(*args, **more)
    netplan = module('cloudinit.net.netplan')
    renderer = getattr(netplan, 'Renderer', None)
    if hasattr(renderer, 'features') and 'netplan features' in known:
        renderer.features = known['netplan features']
    # The network is up; what netplan makes of its file follows later, and the cards have their names.
    for name in ('_netplan_generate', '_net_setup_link'):
        if hasattr(renderer, name):
            setattr(renderer, name, lambda *_args, **_more: None)
    # Of the host keys, one is still to come.
    late = ['keys_to_console']
    # Answers to questions that no package on this image asks.
    if not shutil.which('grub-probe'):
        late.append('grub_dpkg')
    for name in late:
        target = module('cloudinit.config.cc_' + name)
        if hasattr(target, 'handle'):
            target.handle = lambda *_args, name=name, **_more: postpone(name.replace('_', '-'))


def config_drives():
    """Disks with a config drive's label, the last one first."""
    found = []
    for path in glob.glob('/sys/block/*'):
        name = os.path.basename(path)
        if os.path.exists(path + '/device') and read(path + '/size', '0') != '0' and has_label('/dev/' + name):
            found.append('/dev/' + name)
    return sorted(found, reverse=True)


def has_label(path):
    try:
        with open(path, 'rb') as disk:
            for offset in LABEL_OFFSETS:
                disk.seek(offset)
                if disk.read(8) in CONFIG_DRIVE_LABELS:
                    return True
    except OSError:
        pass
    return False
