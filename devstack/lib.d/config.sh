# shellcheck shell=bash
# Configuration of the shared services (database, broker, libvirt) and of Keystone, Glance
# and Placement. Everything lies under $PREBAKE_CLOUD/etc; nothing in /etc is changed.
# Sourced by all-in-one.

# config_auth SECTION USER : a keystoneauth section that logs in as a service user.
config_auth() {
  cat <<X
[$1]
auth_url = http://$IP:5000
auth_type = password
project_domain_name = Default
user_domain_name = Default
region_name = RegionOne
project_name = service
username = $2
password = $SERVICE_PASSWORD
X
}

# config_authtoken USER : how a service checks the tokens it is shown.
config_authtoken() {
  config_auth keystone_authtoken "$1"
  cat <<X
www_authenticate_uri = http://$IP:5000
memcached_servers = $IP:11211
service_token_roles = service
service_token_roles_required = true
X
}

config_rabbit_url() { printf 'rabbit://openstack:%s@%s:5672/%s' "$RABBIT_PASSWORD" "$IP" "$1"; }
config_database_url() { printf 'mysql+pymysql://%s:%s@%s/%s' "$1" "$DATABASE_PASSWORD" "$IP" "$2"; }

config_mariadb() {
  mkdir -p "$LIB/mysql"
  # Data of a throw-away cloud: speed before durability.
  put "$ETC/my.cnf" 644 <<X
[mysqld]
datadir = $LIB/mysql
socket = $RUN/mysqld.sock
pid-file = $LIB/mysql/mysqld.pid
bind-address = $IP
port = 3306
user = mysql
max_connections = 600
character-set-server = utf8mb3
collation-server = utf8mb3_general_ci
innodb_flush_log_at_trx_commit = 0
innodb_buffer_pool_size = 256M
innodb_doublewrite = 0
skip-name-resolve
X
}

config_rabbitmq() {
  mkdir -p "$ETC/rabbitmq" "$LIB/rabbitmq" "$LOG/rabbitmq"
  put "$ETC/rabbitmq/rabbitmq.conf" 644 <<X
listeners.tcp.1 = $IP:5672
log.file.level = warning
X
  put "$ETC/rabbitmq/enabled_plugins" 644 <<<'[].'
  put "$ETC/rabbitmq/rabbitmq-env.conf" 644 <<<'# the environment given by all-in-one is complete'
  chown rabbitmq:rabbitmq "$LIB/rabbitmq" "$LOG/rabbitmq"
}

# Seen by libvirtd instead of /etc/libvirt/qemu.conf, in a mount namespace of its own.
config_libvirt() {
  put "$ETC/libvirtd.conf" 644 <<'X'
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
X
  put "$ETC/qemu.conf" 644 <<'X'
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "logd"
X
}

config_keystone() {
  mkdir -p "$ETC/keystone" "$LIB/keystone"
  put "$ETC/keystone/keystone.conf" <<X
[DEFAULT]
log_file = $LOG/keystone.log
[database]
connection = $(config_database_url keystone keystone)
[token]
provider = fernet
expiration = 86400
[fernet_tokens]
key_repository = $LIB/keystone/fernet-keys
[credential]
key_repository = $LIB/keystone/credential-keys
[cache]
enabled = true
backend = dogpile.cache.memcached
memcache_servers = $IP:11211
X
}

config_glance() {
  mkdir -p "$LIB/glance/images" "$LIB/glance/tasks" "$LIB/glance/staging"
  put "$ETC/glance-api.conf" <<X
[DEFAULT]
bind_host = $IP
bind_port = 9292
workers = 1
log_file = $LOG/glance-api.log
enabled_backends = local:file
transport_url = $(config_rabbit_url nova)
[oslo_messaging_notifications]
driver = messagingv2
topics = notifications
[database]
connection = $(config_database_url glance glance)
[glance_store]
default_backend = local
[local]
filesystem_store_datadir = $LIB/glance/images/
[os_glance_tasks_store]
filesystem_store_datadir = $LIB/glance/tasks/
[os_glance_staging_store]
filesystem_store_datadir = $LIB/glance/staging/
[paste_deploy]
flavor = keystone
config_file = /etc/glance/glance-api-paste.ini
[oslo_policy]
enforce_scope = false
enforce_new_defaults = false
# Glance verifies the signature of an image that has one when it is uploaded.
[barbican]
auth_endpoint = http://$IP:5000/v3
$(config_authtoken glance)
X
}

config_placement() {
  mkdir -p "$ETC/placement"
  put "$ETC/placement/placement.conf" <<X
[DEFAULT]
log_file = $LOG/placement.log
[api]
auth_strategy = keystone
[placement_database]
connection = $(config_database_url placement placement)
$(config_authtoken placement)
X
}

# The administrator's way in, for a shell: . devstack/openrc
config_openrc() {
  put "$DEVSTACK/openrc" <<X
# Written by devstack/all-in-one for the cloud in $CLOUD. Use: . devstack/openrc
export OS_AUTH_URL=http://$IP:5000/v3
export OS_IDENTITY_API_VERSION=3
export OS_USERNAME=admin
export OS_PASSWORD=$ADMIN_PASSWORD
export OS_PROJECT_NAME=admin
export OS_USER_DOMAIN_NAME=Default
export OS_PROJECT_DOMAIN_NAME=Default
export OS_REGION_NAME=RegionOne
export no_proxy=127.0.0.1,localhost
X
}

config_all() {
  config_mariadb && config_rabbitmq && config_libvirt && config_keystone && config_glance &&
    config_placement && config_neutron && config_nova && config_compute && config_openrc
}
