"""
Spare devices: the config drive and the NIC that the guest had when it was baked. They stay where they are, without a driver,
and are a clone's own drive and NIC when it gives them one: nothing has to be looked for on the PCI bus.
"""
import glob
import os

from system import write_to

PCI = '/sys/bus/pci/devices'
NIC, DISK = 'virtio_net', 'virtio_blk'


class Spares:
    def __init__(self):
        self.devices = []

    def let_go(self, addresses):
        """
        Takes the drivers of the virtio devices at these PCI addresses away: those of PCI, so that the device is reset, and
        all that it says of itself read anew, when it has a driver again.
        """
        for address in addresses:
            for path in glob.glob('%s/%s/virtio*' % (PCI, address)):
                kind = os.path.basename(os.path.realpath(path + '/driver'))
                driver = os.path.realpath('%s/%s/driver' % (PCI, address))
                write_to(driver + '/unbind', address.encode())
                self.devices.append((kind, driver, address))

    def take(self, wanted):
        """Gives those of one kind their driver back; they come up as what they are in this clone."""
        for kind, driver, address in self.devices:
            if kind == wanted:
                write_to(driver + '/bind', address.encode())
