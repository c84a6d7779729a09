/**
 * What the driver reads of the service's configuration: names and meaning are nova.conf's (sections and options in camel
 * case). The configuration loader produces a superset of this.
 */
export interface DriverSettings {
  readonly default: {
    readonly instancesPath: string;
    /** Convert base images to raw, as Nova does unless told otherwise. */
    readonly forceRawImages: boolean;
  };
  readonly libvirt: {
    readonly virtType: 'qemu' | 'kvm';
    /** Empty: the system daemon. */
    readonly connectionUri: string;
    /** Unset: host-model with kvm, none with qemu. */
    readonly cpuMode: 'host-model' | 'host-passthrough' | 'custom' | 'none' | null;
    /** For cpu_mode custom; the first is used. */
    readonly cpuModels: readonly string[];
    /** MiB of memory that servers get from files; 0: from the host. */
    readonly fileBackedMemory: number;
    /** Where files, keys and passwords are written on disks: a partition, 0 for a disk without, -1 where it looks right, -2 nowhere. */
    readonly injectPartition: number;
    readonly injectKey: boolean;
    readonly injectPassword: boolean;
    /** Whether servers may have emulated TPMs, and who owns the state of these. */
    readonly swtpmEnabled: boolean;
    readonly swtpmUser: string;
    readonly swtpmGroup: string;
  };
  readonly vnc: {
    readonly enabled: boolean;
    readonly serverListen: string;
    readonly serverProxyclientAddress: string;
  };
  readonly spice: {
    readonly enabled: boolean;
    readonly agentEnabled: boolean;
    readonly serverListen: string;
    readonly serverProxyclientAddress: string;
  };
  readonly serialConsole: {
    readonly enabled: boolean;
    /** First port and the one after the last: `10000:20000`. */
    readonly portRange: string;
    readonly proxyclientAddress: string;
  };
}

/** The CPU mode in force. */
export function cpuMode({ libvirt }: DriverSettings): NonNullable<DriverSettings['libvirt']['cpuMode']> {
  return libvirt.cpuMode ?? (libvirt.virtType === 'kvm' ? 'host-model' : 'none');
}
