/**
 * The rows of Nova's support matrix (doc/source/user/support-matrix.ini), with what its libvirt driver on x86 does there, and
 * why this service does not do some of it.
 */

/** One row. */
export interface Row {
  /** Nova's name of it. */
  readonly key: string;
  readonly title: string;
  /** Nova's libvirt driver with KVM or QEMU on x86. */
  readonly nova: 'complete' | 'partial' | 'missing';
  /** Why it is not done here, or how a server that asks for it is refused; absent for what tests show. */
  readonly without?: string;
}

const VOLUMES = 'Volumes are refused by name.';
const OTHER_HOSTS = 'Migration to another host is refused; the server stays as it is.';
const HARDWARE = 'Needs special hardware; refused by name.';

/** In Nova's order. */
export const ROWS: readonly Row[] = [
  row('operation.attach-volume', 'Attach block volume to instance', VOLUMES),
  row('operation.attach-tagged-volume', 'Attach tagged block device to instance', VOLUMES),
  row('operation.detach-volume', 'Detach block volume from instance', VOLUMES),
  row('operation.extend-volume', 'Extend block volume attached to instance', VOLUMES),
  row('operation.attach-interface', 'Attach virtual network interface to instance'),
  row('operation.attach-tagged-interface', 'Attach tagged virtual network interface to instance'),
  row('operation.detach-interface', 'Detach virtual network interface from instance'),
  {
    key: 'operation.maintenance-mode',
    title: 'Set the host in a maintenance mode',
    nova: 'missing',
    without:
      'No driver of Nova for libvirt has it; `openstack compute service set --disable` takes a host out of use.',
  },
  row('operation.evacuate', 'Evacuate instances from a host', OTHER_HOSTS),
  row('operation.rebuild', 'Rebuild instance'),
  row('operation.rebuild-volume-backed', 'Rebuild volume backed instance', VOLUMES),
  row('operation.get-guest-info', 'Guest instance status'),
  row('operation.get-host-uptime', 'Guest host uptime'),
  row('operation.get-host-ip', 'Guest host ip'),
  row('operation.live-migrate', 'Live migrate instance across hosts', OTHER_HOSTS),
  row('operation.force-live-migration-to-complete', 'Force live migration to complete', OTHER_HOSTS),
  row(
    'operation.abort-in-progress-live-migration',
    'Abort an in-progress or queued live migration',
    OTHER_HOSTS,
  ),
  row('operation.launch', 'Launch instance'),
  row('operation.pause', 'Stop instance CPUs (pause)'),
  row('operation.reboot', 'Reboot instance'),
  row('operation.rescue', 'Rescue instance'),
  row('operation.resize', 'Resize instance'),
  row('operation.resume', 'Restore instance'),
  row('operation.set-admin-password', 'Set instance admin password'),
  row('operation.snapshot', 'Save snapshot of instance disk'),
  row('operation.suspend', 'Suspend instance'),
  row('operation.swap-volume', 'Swap block volumes', VOLUMES),
  row('operation.terminate', 'Shutdown instance'),
  row('operation.trigger-crash-dump', 'Trigger crash dump'),
  row('operation.unpause', 'Resume instance CPUs (unpause)'),
  {
    key: 'guest.disk.autoconfig',
    title: 'Auto configure disk',
    nova: 'missing',
    without: "Guests' cloud-init grows their file systems.",
  },
  row('guest.disk.rate-limit', 'Instance disk I/O limits'),
  row('guest.setup.configdrive', 'Config drive support'),
  row('guest.setup.inject.file', 'Inject files into disk image'),
  {
    key: 'guest.setup.inject.networking',
    title: 'Inject guest networking config',
    nova: 'partial',
    without: 'The network is described on the config drive and by the metadata service.',
  },
  {
    key: 'console.rdp',
    title: 'Remote desktop over RDP',
    nova: 'missing',
    without: 'Hyper-V only; refused as an unavailable console type.',
  },
  row('console.serial.log', 'View serial console logs'),
  row('console.serial.interactive', 'Remote interactive serial console'),
  row('console.spice', 'Remote desktop over SPICE'),
  row('console.vnc', 'Remote desktop over VNC'),
  row('storage.block', 'Block storage support', VOLUMES),
  row('storage.block.backend.fibrechannel', 'Block storage over fibre channel', HARDWARE),
  row('storage.block.backend.iscsi', 'Block storage over iSCSI', VOLUMES),
  row('storage.block.backend.iscsi.auth.chap', 'CHAP authentication for iSCSI', VOLUMES),
  row('storage.image', 'Image storage support'),
  row('operation.uefi-boot', 'uefi boot'),
  row('operation.device-tags', 'Device tags'),
  row('operation.quiesce', 'quiesce'),
  row('operation.unquiesce', 'unquiesce'),
  row('operation.multiattach-volume', 'Attach block volume to multiple instances', VOLUMES),
  row('operation.encrypted-volume', 'Attach encrypted block volume to server', VOLUMES),
  row('operation.trusted-certs', 'Validate image with trusted certificates'),
  row('operation.file-backed-memory', 'File backed memory'),
  row('operation.report-cpu-traits', 'Report CPU traits'),
  row('operation.port-with-resource-request', 'SR-IOV ports with resource request', HARDWARE),
  {
    key: 'operation.boot-encrypted-vm',
    title: 'Boot instance with secure encrypted memory',
    nova: 'partial',
    without: HARDWARE,
  },
  row('operation.cache-images', 'Cache base images for faster instance boot'),
  {
    key: 'operation.boot-emulated-tpm',
    title: 'Boot instance with an emulated trusted platform module (TPM)',
    nova: 'partial',
  },
];

function row(key: string, title: string, without?: string): Row {
  return { key, title, nova: 'complete', ...(without === undefined ? {} : { without }) };
}
