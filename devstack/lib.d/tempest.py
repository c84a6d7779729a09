"""Prints a tempest.conf for this cloud, and makes what tempest wants to find in it.

Usage: tempest.py api|guests IMAGE STATE_DIRECTORY LOG_DIRECTORY HORIZON(true|false), with OS_*
(administrator) in the environment. A second image and an external network are made when missing;
features are what prebake's cloud can do at all, not what a release of prebake does.

'api' asks the API alone, as a cloud whose guests nobody can reach. 'guests' logs in to them as well,
so its servers are in the one network this machine has a foot in.
"""

import configparser
import os
import sys
import tempfile

import openstack


# What a user may set on an image, and a copy of it has to keep.
KEPT_PROPERTIES = ("hw_qemu_guest_agent",)


def active_image(cloud, name):
    return next(iter(cloud.image.images(name=name, status="active")), None)


def second_image(cloud, image):
    """Another image of the same bytes, for what rebuilds a server with a different one."""
    name = f"{image.name}-alt"
    second = active_image(cloud, name)
    if second and second.hash_value == image.hash_value:
        return second
    if second:
        cloud.image.delete_image(second)
    properties = {key: image[key] for key in KEPT_PROPERTIES if image[key] is not None}
    with tempfile.NamedTemporaryFile() as file:
        cloud.image.download_image(image, output=file.name)
        return cloud.create_image(
            name,
            filename=file.name,
            disk_format=image.disk_format,
            container_format=image.container_format,
            visibility="public",
            min_ram=image.min_ram,
            wait=True,
            **properties,
        )


def external_network(cloud):
    network = cloud.network.find_network("public") or cloud.network.create_network(
        name="public", is_router_external=True, provider_network_type="local"
    )
    if not network.subnet_ids:
        cloud.network.create_subnet(
            name="public-subnet", network_id=network.id, ip_version=4, cidr="172.24.4.0/24", enable_dhcp=False
        )
    return network


def main():
    kind, image_name, state, log, horizon = sys.argv[1:]
    guests = "true" if kind == "guests" else "false"
    cloud = openstack.connect()
    image = active_image(cloud, image_name)
    if not image:
        raise SystemExit(f"there is no image {image_name} in Glance: all-in-one image {image_name}")
    flavors = {flavor.name: flavor.id for flavor in cloud.compute.flavors(get_extra_specs=False)}
    config = configparser.ConfigParser(default_section="", interpolation=None)
    config.read_dict(
        {
            "DEFAULT": {"log_dir": log, "log_file": f"tempest-{kind}.log"},
            "oslo_concurrency": {"lock_path": f"{state}/lock"},
            "auth": {
                "use_dynamic_credentials": "true",
                "create_isolated_networks": "false" if guests == "true" else "true",
                "admin_username": os.environ["OS_USERNAME"],
                "admin_project_name": os.environ["OS_PROJECT_NAME"],
                "admin_password": os.environ["OS_PASSWORD"],
                "admin_domain_name": "Default",
            },
            "identity": {
                "uri_v3": os.environ["OS_AUTH_URL"],
                "auth_version": "v3",
                "region": os.environ["OS_REGION_NAME"],
                "v3_endpoint_type": "public",
            },
            "identity-feature-enabled": {"api_v2": "false", "api_v3": "true"},
            "image-feature-enabled": {"import_image": "false"},
            "compute": {
                "image_ref": image.id,
                "image_ref_alt": second_image(cloud, image).id,
                # Of a µVM's size and above, so that servers start from one.
                "flavor_ref": flavors["m1.mini"],
                "flavor_ref_alt": flavors["m1.midi"],
                "fixed_network_name": "private",
                "build_timeout": "180",
                "build_interval": "1",
                "max_microversion": "latest",
                "hypervisor_type": "QEMU",
                "min_compute_nodes": "1",
            },
            "compute-feature-enabled": {
                "resize": "true",
                "live_migration": "false",
                "cold_migration": "false",
                "shelve_migrate": "false",
                "swap_volume": "false",
                "personality": "false",
                "vnc_console": "true",
                "interface_attach": guests,
                "config_drive": guests,
                "change_password": guests,
                "stable_rescue": guests,
            },
            "network": {"public_network_id": external_network(cloud).id},
            "network-feature-enabled": {"floating_ips": "false", "port_security": "true"},
            "validation": {
                "run_validation": guests,
                "connect_method": "fixed",
                "network_for_ssh": "private",
                "image_ssh_user": "root",
                "image_alt_ssh_user": "root",
                "ssh_timeout": "120",
                "ping_timeout": "120",
            },
            "service_available": {
                "cinder": "false",
                "swift": "false",
                "nova": "true",
                "neutron": "true",
                "glance": "true",
                "horizon": horizon,
            },
            "dashboard": {"dashboard_url": "http://127.0.0.1:8088/"},
        }
    )
    config.write(sys.stdout)


if __name__ == "__main__":
    main()
