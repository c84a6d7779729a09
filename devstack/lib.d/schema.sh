# shellcheck shell=bash
# Databases, broker accounts, schema migrations and the Keystone bootstrap. Each is done
# once per installed package version. Sourced by all-in-one.

# Statements on standard input.
sql() { mariadb --protocol=socket --socket "$RUN/mysqld.sock" --user root; }

rabbit_environment() {
  printf '%s\n' HOME="$LIB/rabbitmq" PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 ERL_EPMD_ADDRESS="$IP" \
    RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_NODE_IP_ADDRESS="$IP" \
    RABBITMQ_CONF_ENV_FILE="$ETC/rabbitmq/rabbitmq-env.conf" RABBITMQ_CONFIG_FILE="$ETC/rabbitmq/rabbitmq" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$ETC/rabbitmq/enabled_plugins" \
    RABBITMQ_MNESIA_BASE="$LIB/rabbitmq/mnesia" RABBITMQ_LOG_BASE="$LOG/rabbitmq"
}

# rabbitmqctl without Debian's wrapper, whose su would forget the environment.
broker_control() {
  local environment
  mapfile -t environment < <(rabbit_environment)
  setpriv --reuid rabbitmq --regid rabbitmq --init-groups \
    env -i "${environment[@]}" /usr/lib/rabbitmq/bin/rabbitmqctl -q "$@"
}

# make_database NAME : with a user of the same name, up to the first underscore.
make_database() {
  local user=${1%%_*}
  sql <<<"CREATE DATABASE IF NOT EXISTS $1 CHARACTER SET utf8mb3;
CREATE USER IF NOT EXISTS '$user'@'$IP' IDENTIFIED BY '$DATABASE_PASSWORD';
GRANT ALL ON $1.* TO '$user'@'$IP';"
}

make_databases() {
  stamped databases 1 && return
  local database
  for database in keystone glance placement neutron nova_api nova nova_cell0; do
    make_database "$database" || return
  done
  stamp databases 1
}

make_broker_accounts() {
  stamped broker 1 && return
  local vhost
  broker_control list_users | grep '^openstack\b' >/dev/null ||
    broker_control add_user openstack <<<"$RABBIT_PASSWORD" || return
  for vhost in nova neutron; do
    broker_control list_vhosts | grep -x "$vhost" >/dev/null || broker_control add_vhost "$vhost" || return
    broker_control set_permissions -p "$vhost" openstack '.*' '.*' '.*' || return
  done
  broker_control delete_user guest || true
  stamp broker 1
}

schema_keystone() {
  local version manage=(keystone-manage --config-file "$ETC/keystone/keystone.conf") url=http://$IP:5000/v3
  version=$(package_version keystone)
  stamped keystone "$version" && return
  "${manage[@]}" db_sync &&
    "${manage[@]}" fernet_setup --keystone-user root --keystone-group root &&
    "${manage[@]}" credential_setup --keystone-user root --keystone-group root &&
    OS_BOOTSTRAP_PASSWORD=$ADMIN_PASSWORD "${manage[@]}" bootstrap --bootstrap-region-id RegionOne \
      --bootstrap-public-url "$url" --bootstrap-internal-url "$url" --bootstrap-admin-url "$url" &&
    stamp keystone "$version"
}

schema_glance() {
  local version
  version=$(package_version glance-api)
  stamped glance "$version" && return
  glance-manage --config-file "$ETC/glance-api.conf" db_sync && stamp glance "$version"
}

schema_placement() {
  local version
  version=$(package_version placement-api)
  stamped placement "$version" && return
  placement-manage --config-file "$ETC/placement/placement.conf" db sync && stamp placement "$version"
}

schema_neutron() {
  local version
  version=$(package_version neutron-server)
  stamped neutron "$version" && return
  neutron-db-manage --config-file "$ETC/neutron.conf" --config-file "$ETC/ml2.ini" upgrade heads &&
    stamp neutron "$version"
}

schema_nova() {
  local version manage=(nova-manage --config-file "$ETC/nova.conf")
  version=$(package_version nova-api)
  stamped nova "$version" && return
  "${manage[@]}" api_db sync &&
    "${manage[@]}" cell_v2 map_cell0 --database_connection "$(config_database_url nova nova_cell0)" || return
  "${manage[@]}" cell_v2 list_cells | grep '| *cell1 ' >/dev/null ||
    "${manage[@]}" cell_v2 create_cell --name cell1 || return
  "${manage[@]}" db sync && stamp nova "$version"
}

discover_hosts() { nova-manage --config-file "$ETC/nova.conf" cell_v2 discover_hosts --verbose; }
