# shellcheck shell=bash
# Plugin of devstack: `enable_plugin prebake <url>` in local.conf gives a
# devstack whose compute service is prebake. nova-compute is installed and
# configured as ever; once it runs, prebake takes its place with the same
# nova-cpu.conf, as an operator would change over.
#
# Phases: https://docs.openstack.org/devstack/latest/plugins.html

PREBAKE_NODE_MAJOR=20

function prebake_check_node {
    local major
    major=$(node -p 'process.versions.node.split(".")[0]' || echo 0)
    if [[ "$major" -lt "$PREBAKE_NODE_MAJOR" ]]; then
        die $LINENO "prebake needs node $PREBAKE_NODE_MAJOR or newer"
    fi
}

function prebake_install_packages {
    # A compiler for the one module that comes as a source (lz4).
    install_package make g++ python3 qemu-utils genisoimage
}

function prebake_install {
    prebake_check_node
    (cd "$PREBAKE_DIR" && npm ci && npm run build)
    # libvirtd looks for hooks when it starts.
    sudo install -D -m 755 "$PREBAKE_DIR/drivers/libvirt/hook/prebake" \
        "$PREBAKE_HOOK"
}

function prebake_configure {
    sudo install -d -o "$STACK_USER" "$PREBAKE_CONF_DIR"
    iniset "$PREBAKE_CONF" prebake bake "$PREBAKE_BAKE"
    iniset "$PREBAKE_CONF" prebake base_memory_mb "$PREBAKE_BASE_MEMORY_MB"
    restart_service libvirtd
}

function prebake_start {
    local command
    # They would serve the same queue.
    stop_process n-cpu
    command="$(command -v node) $PREBAKE_DIR/dist/lib/main.js"
    command+=" --config-file $PREBAKE_NOVA_CONF"
    command+=" --config-file $PREBAKE_CONF"
    run_process prebake-cpu "$command" "" root
    if ! wait_for_service 120 http://127.0.0.1:8790/readyz; then
        die $LINENO "prebake-compute is not ready: journalctl -u " \
            "devstack@prebake-cpu"
    fi
}

function prebake_stop {
    stop_process prebake-cpu
}

function prebake_clean {
    sudo rm -f "$PREBAKE_HOOK" "$PREBAKE_CONF"
}

if is_service_enabled prebake-cpu; then
    case "$1/${2:-}" in
        stack/pre-install) prebake_install_packages ;;
        stack/install) prebake_install ;;
        stack/post-config) prebake_configure ;;
        stack/extra) prebake_start ;;
        unstack/*) prebake_stop ;;
        clean/*) prebake_clean ;;
    esac
fi
