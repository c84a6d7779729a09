# shellcheck shell=bash
# Configuration of Neutron, of Nova's control services, and the nova.conf an operator has
# on a compute host. Sourced by all-in-one.

config_neutron() {
  mkdir -p "$LIB/neutron/lock"
  put "$ETC/neutron.conf" <<X
[DEFAULT]
log_dir = $LOG
state_path = $LIB/neutron
bind_host = $IP
bind_port = 9696
core_plugin = ml2
service_plugins = router
api_workers = 1
rpc_workers = 1
rpc_state_report_workers = 0
dhcp_agents_per_network = 1
transport_url = $(config_rabbit_url neutron)
api_paste_config = /etc/neutron/api-paste.ini
[database]
connection = $(config_database_url neutron neutron)
[oslo_concurrency]
lock_path = $LIB/neutron/lock
# Zed refuses the linuxbridge driver without this word.
[experimental]
linuxbridge = true
# Everything runs as root: no sudo or rootwrap process per command.
[agent]
root_helper = env PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
$(config_authtoken neutron)
$(config_auth nova nova)
$(config_auth placement placement)
X
  # One host: a 'local' network is a bridge, and no tunnel socket listens anywhere.
  put "$ETC/ml2.ini" <<'X'
[ml2]
type_drivers = local,flat
tenant_network_types = local
mechanism_drivers = linuxbridge
extension_drivers = port_security
[securitygroup]
enable_security_group = true
enable_ipset = true
X
  # The agents report the compute host's name: one of them wires instances and DHCP ports.
  put "$ETC/linuxbridge.ini" <<X
[DEFAULT]
host = $COMPUTE_HOST
[vxlan]
enable_vxlan = false
[securitygroup]
enable_security_group = true
firewall_driver = iptables
enable_ipset = true
X
  put "$ETC/dhcp.ini" <<X
[DEFAULT]
host = $COMPUTE_HOST
interface_driver = linuxbridge
dhcp_driver = neutron.agent.linux.dhcp.Dnsmasq
enable_isolated_metadata = false
X
}

config_vnc() {
  cat <<X
[vnc]
enabled = true
server_listen = $IP
server_proxyclient_address = $IP
novncproxy_host = $IP
novncproxy_port = 6080
novncproxy_base_url = http://$IP:6080/vnc_lite.html
X
}

# config_service_user USER : how Nova acts for a user whose token may expire meanwhile.
config_service_user() {
  config_auth service_user "$1"
  echo 'send_service_user_token = true'
}

config_nova() {
  mkdir -p "$LIB/nova/lock"
  put "$ETC/nova.conf" <<X
[DEFAULT]
log_dir = $LOG
state_path = $LIB/nova
my_ip = $IP
host = controller
transport_url = $(config_rabbit_url nova)
enabled_apis = osapi_compute
osapi_compute_listen = $IP
osapi_compute_listen_port = 8774
osapi_compute_workers = 1
rootwrap_config = /etc/nova/rootwrap.conf
allow_resize_to_same_host = true
[wsgi]
api_paste_config = /etc/nova/api-paste.ini
[api]
auth_strategy = keystone
[api_database]
connection = $(config_database_url nova nova_api)
[database]
connection = $(config_database_url nova nova)
[conductor]
workers = 1
[scheduler]
workers = 1
discover_hosts_in_cells_interval = 10
[glance]
api_servers = http://$IP:9292
[oslo_concurrency]
lock_path = $LIB/nova/lock
[cinder]
os_region_name = RegionOne
$(config_vnc)
$(config_authtoken nova)
$(config_service_user nova)
$(config_auth placement placement)
$(config_auth neutron neutron)
X
}

# config_compute_host HOST DIRECTORY : what nova-compute and its replacement both read.
config_compute_host() {
  mkdir -p "$2/instances" "$2/lock"
  cat <<X
[DEFAULT]
host = $1
my_ip = $IP
log_dir = $LOG
state_path = $2
instances_path = $2/instances
transport_url = $(config_rabbit_url nova)
compute_driver = libvirt.LibvirtDriver
# Small servers by the dozen, for benches and tests: what they take is far below what they may.
cpu_allocation_ratio = 64
ram_allocation_ratio = 4
# There is no metadata service here: every server gets its identity from a config drive.
force_config_drive = true
[libvirt]
virt_type = $VIRT_TYPE
connection_uri = qemu:///system
[glance]
api_servers = http://$IP:9292
[oslo_concurrency]
lock_path = $2/lock
$(config_vnc)
$(config_auth keystone_authtoken nova)
$(config_service_user nova)
$(config_auth placement placement)
$(config_auth neutron neutron)
X
}

config_compute() {
  VIRT_TYPE=$(virt_type) || return
  { config_compute_host "$COMPUTE_HOST" "$LIB/prebake" && printf '[prebake]\n'; } | put "$ETC/nova-compute.conf"
}

# The probe's guest, a boot sector that does what boot loaders do and half-working KVMs fail
# at: it enters 32-bit protected mode, returns from there by iret, and ends its QEMU by
# writing 0x10 to the debug port (exit status 0x10 << 1 | 1 = 33).
#   cli; xor ax,ax; mov ds,ax; lgdt [gdtr]; mov eax,cr0; or al,1; mov cr0,eax; jmp 8:protected
#   protected: mov ax,16; mov ds,ax; mov ss,ax; mov esp,0x7000; pushf; push cs; push done; iret
#   done: mov al,0x10; out 0xf4,al; hlt        gdt: null, flat code, flat data        gdtr
KVM_PROBE='fa31c08ed8660f0116507c0f20c00c010f22c0ea187c0800
66b810008ed88ed0bc007000009c0e682d7c0000cfb010e6f4f48db600000000
0000000000000000ffff0000009acf00ffff00000092cf001700387c00000000'

# A /dev/kvm that opens may still be unable to run a guest: run one, once per kernel.
virt_type() {
  local kernel sector=$RUN/kvm-probe.raw answer=no-kvm code
  kernel=$(uname -r)
  if [ -c /dev/kvm ] && ! stamped virt-type "kvm $kernel" && ! stamped virt-type "no-kvm $kernel"; then
    # shellcheck disable=SC2059  # the format is the content
    printf "$(tr -d '\n' <<<"$KVM_PROBE" | sed 's/../\\x&/g')" >"$sector"
    truncate -s 510 "$sector"
    printf '\x55\xaa' >>"$sector"
    timeout 10 qemu-system-x86_64 -machine pc,accel=kvm -m 16 -display none -nodefaults \
      -device isa-debug-exit,iobase=0xf4,iosize=1 -drive "file=$sector,format=raw,if=ide" >/dev/null 2>&1
    code=$?
    [ "$code" != 33 ] || answer=kvm
    rm -f "$sector"
    stamp virt-type "$answer $kernel"
  fi
  if [ -c /dev/kvm ] && stamped virt-type "kvm $kernel"; then echo kvm; else echo qemu; fi
}
