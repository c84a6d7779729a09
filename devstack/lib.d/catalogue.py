"""Keystone's service users, roles, services and endpoints, in one process.

Reads OS_* (administrator) and SERVICE_PASSWORD from the environment, the names of the cloud's extras as arguments; does
only what is missing.
"""

import os
import sys

from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from keystoneclient.v3.client import Client

SERVICES = (
    ("glance", "image", "http://127.0.0.1:9292"),
    ("placement", "placement", "http://127.0.0.1:8778"),
    ("neutron", "network", "http://127.0.0.1:9696"),
    ("nova", "compute", "http://127.0.0.1:8774/v2.1"),
)
EXTRAS = {
    "swift": ("swift", "object-store", "http://127.0.0.1:8080/v1/AUTH_%(project_id)s"),
    "barbican": ("barbican", "key-manager", "http://127.0.0.1:9311"),
}


def ensure(manager, name, **fields):
    found = next((item for item in manager.list() if item.name == name), None)
    return found or manager.create(name=name, **fields)


def main():
    region = os.environ["OS_REGION_NAME"]
    auth = v3.Password(
        auth_url=os.environ["OS_AUTH_URL"],
        username=os.environ["OS_USERNAME"],
        password=os.environ["OS_PASSWORD"],
        project_name=os.environ["OS_PROJECT_NAME"],
        user_domain_name="Default",
        project_domain_name="Default",
    )
    keystone = Client(session=Session(auth=auth), region_name=region)

    project = ensure(keystone.projects, "service", domain="default")
    roles = [ensure(keystone.roles, name) for name in ("admin", "service")]
    endpoints = {(item.service_id, item.interface) for item in keystone.endpoints.list()}
    for name, kind, url in (*SERVICES, *(EXTRAS[extra] for extra in sys.argv[1:] if extra in EXTRAS)):
        user = ensure(
            keystone.users, name, domain="default", password=os.environ["SERVICE_PASSWORD"], default_project=project
        )
        for role in roles:
            keystone.roles.grant(role, user=user, project=project)
        service = ensure(keystone.services, name, type=kind)
        for interface in ("public", "internal", "admin"):
            if (service.id, interface) not in endpoints:
                keystone.endpoints.create(service=service, url=url, interface=interface, region=region)


if __name__ == "__main__":
    main()
