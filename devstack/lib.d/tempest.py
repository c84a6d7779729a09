"""Prints a tempest.conf for this cloud, and makes what tempest wants to find in it.

Usage: tempest.py IMAGE_ID IMAGE_FILE STATE_DIRECTORY LOG_DIRECTORY HORIZON(true|false), with OS_*
(administrator) in the environment. A second image and an external network are made when missing;
features are what prebake's cloud can do at all, not what a release of prebake does.
"""

import configparser
import os
import sys

import openstack


def second_image(cloud, path):
    image = next(iter(cloud.image.images(name="tiny-alt", status="active")), None)
    return image or cloud.create_image(
        "tiny-alt", filename=path, disk_format="qcow2", container_format="bare", visibility="public", wait=True
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
    image_id, image_file, state, log, horizon = sys.argv[1:]
    cloud = openstack.connect()
    flavors = {flavor.name: flavor.id for flavor in cloud.compute.flavors(get_extra_specs=False)}
    config = configparser.ConfigParser(default_section="", interpolation=None)
    config.read_dict(
        {
            "DEFAULT": {"log_dir": log, "log_file": "tempest.log"},
            "oslo_concurrency": {"lock_path": f"{state}/lock"},
            "auth": {
                "use_dynamic_credentials": "true",
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
                "image_ref": image_id,
                "image_ref_alt": second_image(cloud, image_file).id,
                "flavor_ref": flavors["m1.nano"],
                "flavor_ref_alt": flavors["m1.micro"],
                "build_timeout": "180",
                "build_interval": "1",
                "max_microversion": "latest",
                "hypervisor_type": "QEMU",
                "min_compute_nodes": "1",
            },
            "compute-feature-enabled": {
                "live_migration": "false",
                "cold_migration": "false",
                "shelve_migrate": "false",
                "swap_volume": "false",
                "personality": "false",
                "vnc_console": "true",
            },
            "network": {"public_network_id": external_network(cloud).id},
            "network-feature-enabled": {"floating_ips": "false", "port_security": "true"},
            "validation": {"run_validation": "false"},
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
