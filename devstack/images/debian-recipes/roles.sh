# shellcheck shell=bash
# What an image may be beyond its release's plain one: packages more or fewer, or another disk.
# Sourced by images/debian.
# shellcheck disable=SC2034  # the tables are for images/debian to read

# Ways to be a guest: how its network is configured, what its provider left out.
declare -A VARIANTS=(
  [ifupdown]='configured by ifupdown'
  [networkd]='configured by systemd-networkd, without netplan'
  [noagent]='without the QEMU guest agent'
  [nocloudinit]='without cloud-init'
  [xfs]='GPT, an ext4 /boot and an XFS root'
)
# What servers are for.
declare -A ROLES=(
  [apache]='Apache and PHP'
  [build]='compilers and git'
  [dns]='BIND'
  [mail]='Postfix and Dovecot'
  [mariadb]='MariaDB'
  [nginx]='nginx'
  [node]='Node.js'
  [postgresql]='PostgreSQL'
  [python]='gunicorn and Django'
  [redis]='Redis'
  [tomcat]='Java and Tomcat'
)

# role_packages ROLE RELEASE : what is installed, and with a '-' at the end what is removed. There is no such image when it
# fails: cloud-init of Debian 11 depends on ifupdown, which its plain image therefore is configured by.
role_packages() {
  case $1-$2 in ifupdown-11 | networkd-11) return 1 ;; esac
  case $1 in
    plain) ;;
    apache) echo apache2 libapache2-mod-php php-mysql ;;
    build) echo build-essential git pkg-config gdb ;;
    dns) echo bind9 bind9-dnsutils ;;
    mail) echo postfix dovecot-imapd ;;
    mariadb) echo mariadb-server ;;
    nginx) echo nginx ;;
    node) echo nodejs ;;
    postgresql) echo postgresql ;;
    python) echo gunicorn python3-django python3-venv ;;
    redis) echo redis-server ;;
    tomcat) echo "tomcat$(($2 - 2))" ;;
    ifupdown) echo ifupdown isc-dhcp-client resolvconf netplan.io- systemd-resolved- ;;
    networkd) echo netplan.io- ;;
    noagent) echo qemu-guest-agent- ;;
    nocloudinit) [ "$2" = 11 ] && echo cloud-init- ifupdown- isc-dhcp-client- resolvconf- || echo cloud-init- netplan.io- ;;
    xfs) echo xfsprogs ;;
    *) return 1 ;;
  esac
}

# What configures its network: networkd (through netplan, where that is installed) or ifupdown.
role_network() {
  case $1-$2 in
    nocloudinit-11) echo networkd ;;
    *-11 | ifupdown-*) echo ifupdown ;;
    *) echo networkd ;;
  esac
}

# Those that the figures of the cache are made with.
CORPUS=(
  debian-12 debian-12-nginx debian-12-mariadb debian-12-build debian-12-apache debian-12-postgresql debian-12-python
  debian-12-mail debian-12-redis
  debian-13 debian-13-nginx debian-13-postgresql debian-13-build
  debian-11 debian-11-nginx debian-11-mariadb debian-11-dns
)
