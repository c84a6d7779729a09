# shellcheck shell=bash
# What 'up --with barbican' adds: the key manager, which keeps its secrets encrypted in the cloud's database.
# Sourced by all-in-one.

# Barbican looks for its configuration below the home directory of its process first.
BARBICAN_HOME=$ETC/barbican

config_barbican() {
  mkdir -p "$BARBICAN_HOME/.barbican"
  put "$BARBICAN_HOME/.barbican/barbican.conf" <<X
[DEFAULT]
log_file = $LOG/barbican.log
host_href = http://$IP:9311
sql_connection = $(config_database_url barbican barbican)
db_auto_create = false
[secretstore]
enabled_secretstore_plugins = store_crypto
[crypto]
enabled_crypto_plugins = simple_crypto
[simple_crypto_plugin]
kek = $(printf %s "$BARBICAN_PASSWORD" | base64)
$(config_authtoken barbican)
X
}

launch_barbican() { wsgi barbican 9311 /usr/bin/barbican-wsgi-api HOME="$BARBICAN_HOME"; }

schema_barbican() {
  local version
  version=$(package_version barbican-common)
  stamped barbican "$version" && return
  make_database barbican && HOME=$BARBICAN_HOME barbican-manage db upgrade && stamp barbican "$version"
}
