"""What every cloud of ours offers: flavors, a network with DHCP, open icmp and ssh.

Reads OS_* (administrator) from the environment; does only what is missing. Before that it
waits until the services that have no port of their own report themselves to the APIs.
"""

import time

import openstack

DEADLINE_S = 60
SERVICES = {"nova-conductor", "nova-scheduler"}
AGENTS = {"neutron-linuxbridge-agent", "neutron-dhcp-agent"}

# name, id, MiB, vCPUs, GB. Debian's kernel does not unpack itself in less than 96 MiB.
FLAVORS = (
    ("m1.nano", "42", 96, 1, 1),
    ("m1.micro", "84", 128, 1, 1),
    ("m1.mini", "43", 512, 1, 2),
    ("m1.midi", "44", 640, 1, 2),
    ("m1.small", "2", 2048, 2, 10),
    ("m1.medium", "3", 4096, 4, 20),
)
RULES = (
    {"protocol": "icmp"},
    {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22},
)


def missing(cloud):
    """Names of the services and agents that have not reported themselves."""
    up = {service.binary for service in cloud.compute.services() if service.state == "up"}
    alive = {agent.binary for agent in cloud.network.agents() if agent.is_alive}
    return (SERVICES - up) | (AGENTS - alive)


def wait_for(names_of_absent):
    """Returns when names_of_absent() is empty; at the deadline says which are still absent."""
    deadline = time.monotonic() + DEADLINE_S
    while absent := names_of_absent():
        if time.monotonic() > deadline:
            raise SystemExit(f"after {DEADLINE_S} s not up by the APIs' word: {', '.join(sorted(absent))}")
        time.sleep(0.5)


def ensure_flavors(cloud):
    have = {flavor.name: flavor for flavor in cloud.compute.flavors(get_extra_specs=False)}
    for name, identifier, memory_mb, vcpus, disk_gb in FLAVORS:
        old = have.get(name)
        if old and (old.ram, old.vcpus, old.disk) != (memory_mb, vcpus, disk_gb):
            cloud.compute.delete_flavor(old)
            old = None
        if not old:
            cloud.compute.create_flavor(id=identifier, name=name, ram=memory_mb, vcpus=vcpus, disk=disk_gb)


def ensure_network(cloud):
    network = cloud.network.find_network("private") or cloud.network.create_network(name="private", shared=True)
    if not network.subnet_ids:
        cloud.network.create_subnet(
            name="private-subnet", network_id=network.id, ip_version=4, cidr="10.77.0.0/24", enable_dhcp=True
        )
    wait_for(lambda: [] if dhcp_is_wired(cloud, network) else ["the DHCP port of the network 'private'"])


def dhcp_is_wired(cloud, network):
    ports = cloud.network.ports(network_id=network.id, device_owner="network:dhcp")
    return any(port.status == "ACTIVE" for port in ports)


def ensure_rules(cloud):
    project = cloud.current_project_id
    group = next(iter(cloud.network.security_groups(name="default", project_id=project)))
    have = {
        (rule.protocol, rule.port_range_min)
        for rule in cloud.network.security_group_rules(security_group_id=group.id, direction="ingress")
        if rule.remote_ip_prefix in (None, "0.0.0.0/0") and not rule.remote_group_id
    }
    for rule in RULES:
        if (rule["protocol"], rule.get("port_range_min")) not in have:
            cloud.network.create_security_group_rule(
                security_group_id=group.id, direction="ingress", ethertype="IPv4", **rule
            )


def main():
    cloud = openstack.connect()
    wait_for(lambda: missing(cloud))
    ensure_flavors(cloud)
    ensure_network(cloud)
    ensure_rules(cloud)


if __name__ == "__main__":
    main()
