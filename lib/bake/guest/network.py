"""
Network of a clone: set at once through rtnetlink, and written down for systemd-networkd so that it agrees.

The image's own tools (netplan, ifupdown ...) get their files from cloud-init later, and find the network as those say.
"""
import glob
import os
import shutil
import socket
import struct

from system import put, read, remove, run

RTM_NEWLINK, RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE = 16, 20, 22, 24
REQUEST_ACK, DUMP, CREATE_REPLACE = 0x5, 0x300, 0x500
ERROR, DONE = 2, 3
IFF_UP = 1
NETWORKD = '/run/systemd/network'
# Sorts before all others.
HELD = NETWORKD + '/00-prebake.network'
RESOLVER = '/etc/resolv.conf'
# Whose the file is when it is a link to there.
RESOLVED = '/run/systemd/resolve/'
IFUPDOWN_STATE = '/run/network/ifstate'


def attribute(kind, data):
    return struct.pack('=HH', 4 + len(data), kind) + data + b'\0' * (-len(data) % 4)


class Netlink:
    """One rtnetlink conversation."""

    def __init__(self, groups=0):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self.socket.bind((0, groups))
        self.socket.settimeout(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def request(self, kind, flags, body):
        """Returns the bodies of the answers as (type, bytes)."""
        self.socket.send(struct.pack('=IHHII', 16 + len(body), kind, flags | REQUEST_ACK, 1, 0) + body)
        answers = []
        while True:
            data = self.socket.recv(65536)
            while data:
                length, answer, _, _, _ = struct.unpack_from('=IHHII', data)
                if answer == ERROR:
                    error = -struct.unpack_from('=i', data, 16)[0]
                    if error:
                        raise OSError(error, os.strerror(error))
                    return answers
                if answer == DONE:
                    return answers
                answers.append((answer, data[16:length]))
                data = data[(length + 3) & ~3:]

    def link(self, index, name=None, mtu=None, up=False):
        body = struct.pack('=BxHiII', 0, 0, index, IFF_UP if up else 0, IFF_UP if up else 0)
        if mtu:
            body += attribute(4, struct.pack('=I', mtu))
        if name:
            body += attribute(3, name.encode() + b'\0')
        self.request(RTM_NEWLINK, 0, body)

    def address(self, index, address):
        family, packed, prefix = parse_prefix(address)
        body = struct.pack('=BBBBI', family, prefix, 0, 0, index) + attribute(1, packed)
        if family == socket.AF_INET:
            body += attribute(2, packed)
            if prefix < 31:
                host = (1 << (32 - prefix)) - 1
                body += attribute(4, struct.pack('>I', struct.unpack('>I', packed)[0] | host))
        self.request(RTM_NEWADDR, CREATE_REPLACE, body)

    def route(self, index, to, via):
        family, packed, prefix = parse_prefix(to)
        # proto static, scope universe, type unicast, in the main table
        body = struct.pack('=BBBBBBBBI', family, prefix, 0, 0, 254, 4, 0, 1, 4)  # RTNH_F_ONLINK: see below
        if prefix:
            body += attribute(1, packed)
        body += attribute(5, socket.inet_pton(family, via)) + attribute(4, struct.pack('=I', index))
        # On-link, because a gateway may lie outside the prefix (cloud networks with /32 addresses).
        self.request(RTM_NEWROUTE, CREATE_REPLACE, body)


def parse_prefix(text):
    address, _, prefix = text.partition('/')
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    return family, socket.inet_pton(family, address), int(prefix or (128 if family == socket.AF_INET6 else 32))


def find(mac):
    """(name, index) of the interface with this address, or None."""
    for name in os.listdir('/sys/class/net'):
        if read('/sys/class/net/%s/address' % name) == mac:
            index = read('/sys/class/net/%s/ifindex' % name)
            if index:
                return name, int(index)
    return None


def predictable_name(name):
    """
    The name udev will give to a hot-plugged card (its PCI slot), so that we may give it first: a card that is up cannot be
    renamed. Returns None where udev would use another rule or none.
    """
    if 'net.ifnames=0' in read('/proc/cmdline'):
        return None
    device = os.path.realpath('/sys/class/net/%s/device' % name)
    if os.path.basename(device).startswith('virtio'):
        device = os.path.dirname(device)
    pci = os.path.basename(device)
    if read(device + '/acpi_index') or read(device + '/label'):
        return None
    for slot in glob.glob('/sys/bus/pci/slots/*/address'):
        if pci.startswith(read(slot) + '.') and pci.startswith('0000:') and pci.endswith('.0'):
            return 'ens' + slot.split('/')[-2]
    return None


def configure(interface, events):
    """Waits for the card, then gives it name, MTU, addresses and routes."""
    mac = interface['mac']
    name, index = events.wait_for(lambda: find(mac), 'the network card ' + mac)
    with Netlink() as netlink:
        wanted = predictable_name(name)
        if wanted and wanted != name and not os.path.exists('/sys/class/net/' + wanted):
            try:
                netlink.link(index, name=wanted)
            except OSError:
                pass  # udev was here at the same moment; it means the same name
        netlink.link(index, mtu=interface['mtu'], up=True)
        for address in interface['addresses']:
            netlink.address(index, address)
        write_for_networkd(wanted or name, interface)
        for route in interface['routes']:
            try:
                netlink.route(index, route['to'], route['via'])
            except OSError:
                # IPv6 has no on-link gateways before its address is usable; networkd sets this one a moment later.
                if ':' not in route['via']:
                    raise


def hold_networkd():
    """What networkd sees until it is told more: every card is somebody else's."""
    os.makedirs(NETWORKD, exist_ok=True)
    put(HELD, '[Match]\nType=ether\n\n[Link]\nUnmanaged=yes\n')


def forget_cards():
    """ifupdown is not told when the bake's card goes, and would call it configured in every clone."""
    if not os.path.exists(IFUPDOWN_STATE):
        return
    kept = [line for line in read(IFUPDOWN_STATE).splitlines() if line.startswith('lo=')]
    put(IFUPDOWN_STATE, ''.join(line + '\n' for line in kept))
    for path in glob.glob(IFUPDOWN_STATE + '.*'):
        if not path.endswith('.lo'):
            remove(path)


def write_for_networkd(name, interface):
    """Under the name that netplan or cloud-init will use, so that theirs replaces ours."""
    if os.path.isdir(NETWORKD):
        owner = 'netplan' if shutil.which('netplan') else 'cloud-init'
        put('%s/10-%s-%s.network' % (NETWORKD, owner, name), networkd_file(interface))


def take_over(interfaces):
    """Before the first card is there: nothing is held back any more, and names can be resolved."""
    remove(HELD)
    servers = [server for interface in interfaces for server in interface['dns']]
    file = os.path.realpath(RESOLVER)
    if servers and not file.startswith(RESOLVED):
        os.makedirs(os.path.dirname(file), exist_ok=True)
        put(file, name_servers(servers))


def name_servers(servers):
    return ''.join('nameserver %s\n' % server for server in dict.fromkeys(servers))


def hand_over(interfaces):
    """cloud-init has written the image's own configuration: the tools learn that it is in effect."""
    if shutil.which('netplan'):
        run('netplan', 'generate')
    if not shutil.which('ifup') or not os.path.isdir(os.path.dirname(IFUPDOWN_STATE)):
        return
    for interface in interfaces:
        name = (find(interface['mac']) or ('', 0))[0]
        if interface['dhcp4'] or interface['dhcp6']:
            run('ifup', name)  # its client keeps the lease alive
        elif name and name not in [line.split('=')[0] for line in read(IFUPDOWN_STATE).splitlines()]:
            put(IFUPDOWN_STATE, read(IFUPDOWN_STATE) + '\n%s=%s\n' % (name, name))
            if interface['dns'] and shutil.which('resolvconf'):
                run('resolvconf', '-a', name + '.inet', text=name_servers(interface['dns']))


def networkd_file(interface):
    dhcp = {(True, True): 'yes', (True, False): 'ipv4', (False, True): 'ipv6'}.get(
        (interface['dhcp4'], interface['dhcp6']), 'no'
    )
    lines = ['[Match]', 'MACAddress=' + interface['mac'], '', '[Link]']
    if interface['mtu']:
        lines.append('MTUBytes=%d' % interface['mtu'])
    lines += ['', '[Network]', 'DHCP=' + dhcp]
    lines += ['Address=' + address for address in interface['addresses']]
    lines += ['DNS=' + server for server in interface['dns']]
    for route in interface['routes']:
        lines += ['', '[Route]', 'Destination=' + route['to'], 'Gateway=' + route['via'], 'GatewayOnLink=yes']
    if interface['mtu'] and dhcp != 'no':
        lines += ['', '[DHCPv4]', 'UseMTU=no']
    return '\n'.join(lines) + '\n'


def global_addresses():
    """`name address/prefix` of each address that others can reach."""
    found = []
    with Netlink() as netlink:
        for kind, body in netlink.request(RTM_GETADDR, DUMP, struct.pack('=BBBBI', 0, 0, 0, 0, 0)):
            if kind != RTM_NEWADDR:
                continue
            family, prefix, _, scope, index = struct.unpack_from('=BBBBI', body)
            if scope != 0 or family not in (socket.AF_INET, socket.AF_INET6):
                continue
            attributes = dict(split_attributes(body[8:]))
            packed = attributes.get(2, attributes.get(1))
            found.append('%s %s/%d' % (socket.if_indextoname(index), socket.inet_ntop(family, packed), prefix))
    return sorted(set(found))


def split_attributes(data):
    while len(data) >= 4:
        length, kind = struct.unpack_from('=HH', data)
        yield kind, data[4:length]
        data = data[(length + 3) & ~3:]
