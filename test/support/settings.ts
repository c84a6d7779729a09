/** Driver settings that a test has no interest in, as nova.conf's defaults. */
import type { DriverSettings } from '../../drivers/libvirt';

/** The hypervisor, its emulation without TPMs. */
export const EMULATION = {
  virtType: 'qemu',
  connectionUri: '',
  cpuMode: null,
  cpuModels: [],
  fileBackedMemory: 0,
  injectPartition: -2,
  injectKey: false,
  injectPassword: false,
  swtpmEnabled: false,
  swtpmUser: 'tss',
  swtpmGroup: 'tss',
} satisfies DriverSettings['libvirt'];

/** Consoles other than VNC. */
export const OTHER_CONSOLES = {
  spice: {
    enabled: false,
    agentEnabled: true,
    serverListen: '127.0.0.1',
    serverProxyclientAddress: '127.0.0.1',
  },
  serialConsole: { enabled: false, portRange: '10000:20000', proxyclientAddress: '127.0.0.1' },
} satisfies Partial<DriverSettings>;
