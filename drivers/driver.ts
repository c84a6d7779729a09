/**
 * What the compute service asks of a hypervisor, in the words of Nova's virt driver (nova/virt/driver.py), and what the
 * baker asks of it to make a µVM. `lib/compute` and `lib/bake` know this file; only `lib/main.ts` knows an implementation.
 */
import type { GateAnswers } from '../lib/bake';
import type { NetworkInfo, Vif } from '../lib/objects';
import type { Timeline } from '../lib/timeline';

/** The machine of a server whose image names none: Nova's default for x86_64. */
export const DEFAULT_MACHINE_TYPE = 'pc';

/** Power states by Nova's numbers (nova/compute/power_state.py). */
export enum PowerState {
  NOSTATE = 0,
  RUNNING = 1,
  PAUSED = 3,
  SHUTDOWN = 4,
  CRASHED = 6,
  SUSPENDED = 7,
}

/** What a flavor gives to a server. */
export interface FlavorSpec {
  readonly name: string;
  readonly vcpus: number;
  readonly memoryMb: number;
  readonly rootGb: number;
  readonly ephemeralGb: number;
  readonly swapMb: number;
  readonly extraSpecs: Readonly<Record<string, string>>;
}

/** An image as the driver needs it: which one, how it is encoded, and its properties (`hw_*`, `prebake*` ...). */
export interface ImageSpec {
  readonly id: string;
  readonly diskFormat: string;
  readonly containerFormat: string;
  /** Bytes of the file in Glance. */
  readonly sizeBytes: number;
  readonly minDiskGb: number;
  readonly minRamMb: number;
  /** MD5 as Glance's `checksum`, null for images that have none. */
  readonly checksum: string | null;
  readonly properties: Readonly<Record<string, string>>;
  /** For an image that is fetched for a server; without it, the service fetches it by itself. */
  readonly trust?: ImageTrust;
}

/** What a server asks of the signature of its image (nova/objects/trusted_certs.py). */
export interface ImageTrust {
  /** Certificates to trust, by their IDs in the key manager; empty leaves it to the operator's options. */
  readonly certificateIds: readonly string[];
  /** In whose name certificates are read; prints nothing of the token. */
  readonly requester: { readonly authToken: string | null };
}

/** A server as the driver needs it. */
export interface InstanceSpec {
  readonly uuid: string;
  /** libvirt's name for it, from `instance_name_template`: `instance-0000002a`. */
  readonly name: string;
  readonly displayName: string;
  readonly projectId: string;
  readonly userId: string;
  readonly flavor: FlavorSpec;
  readonly image: ImageSpec;
  /** For one that asks for an emulated TPM, wherever it may be defined anew or started. */
  readonly vtpmSecret?: VtpmSecret;
}

/** What the state of an emulated TPM is encrypted with. */
export interface VtpmSecret {
  readonly uuid: string;
  /** Asked for when the guest is started. Rejects when the key manager does not tell. */
  readonly passphrase: () => Promise<string>;
}

/** A file of a config drive; `path` is relative, such as `openstack/latest/meta_data.json`. */
export interface ConfigDriveFile {
  readonly path: string;
  readonly content: Buffer;
}

/** Who a server is: the source of both its config drive and the identity message to a µVM's gate. */
export interface InstanceIdentity {
  readonly uuid: string;
  readonly hostname: string;
  readonly publicKeys: readonly string[];
  readonly adminPassword: string | null;
  readonly userData: Buffer | null;
  /** The whole content of the OpenStack config drive, `network_data.json` included. */
  readonly files: readonly ConfigDriveFile[];
  /** What else a server without such a drive is to find on its disk, on hosts that write there. */
  readonly injection?: {
    /** `path` is one in the guest. */
    readonly files: readonly { readonly path: string; readonly content: Buffer }[];
    readonly metadata: Readonly<Record<string, string>>;
  };
  /** Whether Nova asked for the drive to be attached (`Instance.config_drive` or `force_config_drive`). */
  readonly configDrive: boolean;
}

/** A µVM, written out and verified, ready to be mapped by a clone. Made by `lib/squirrel`. */
export interface UvmTemplate {
  /** Digest that names the µVM. */
  readonly key: string;
  readonly imageId: string;
  readonly platform: UvmPlatform;
  /** Memory the µVM was baked with; a clone gets the rest of its flavor by hot-plug. */
  readonly memoryMb: number;
  /** RAM file, sparse, `memoryMb` long, never written to by clones. */
  readonly ramPath: string;
  /** QEMU's device state: a migration stream without RAM. */
  readonly statePath: string;
  /** qcow2 with what the baked boot wrote over the image. Its backing file is given when a clone's disk is made. */
  readonly diskDeltaPath: string;
}

/** Everything besides the image that must match for a restore to be sound. */
export interface UvmPlatform {
  readonly virtType: 'qemu' | 'kvm';
  /** Canonical, versioned machine type: `pc-i440fx-7.2`. */
  readonly machineType: string;
  /** CPU model and, for host models, a digest of the host's CPU. */
  readonly cpuModel: string;
  readonly qemuMajorVersion: number;
  readonly firmware: 'bios';
  /** Version of the fixed device layout; raised whenever the domain XML of a template changes. */
  readonly layoutVersion: number;
  readonly maxVcpus: number;
  readonly maxMemoryMb: number;
}

/**
 * How a server came up. `ready` of a clone rejects when it did not get its identity or resources: with InstanceNotFound
 * when it was ended on purpose before.
 */
export type SpawnOutcome =
  | { readonly how: 'uvm'; readonly ready: Promise<GuestReady> }
  | { readonly how: 'cold'; readonly why: string };

/** What a clone's gate reported once it had its new identity and all resources. */
export interface GuestReady {
  readonly vcpus: number;
  readonly memoryMb: number;
  readonly rootBytes: number;
  /** Milliseconds each step took inside the guest. */
  readonly stepsMs: Readonly<Record<string, number>>;
}

/** One boot, as `ComputeDriver.spawn` takes it. */
export interface SpawnRequest {
  readonly instance: InstanceSpec;
  /** The µVM to restore, or why there is none (the server then boots cold). */
  readonly template: { readonly uvm: UvmTemplate } | { readonly none: string };
  /** Settles when Neutron has bound the ports. A restore does not wait for it; the hot-plug does. */
  readonly network: Promise<NetworkInfo>;
  /** Settles after `network`; the guest gets no network before it has this. */
  readonly identity: Promise<InstanceIdentity>;
  /**
   * For a server with devices that its user tagged: makes its identity anew once it is known where they are, in place of
   * what `identity` says.
   */
  readonly identityWith?: (devices: readonly GuestDevice[]) => Promise<InstanceIdentity>;
  /** Resolves when Neutron reports every VIF plugged; called once the taps exist or are about to. */
  readonly vifsPlugged: (network: NetworkInfo) => Promise<void>;
  readonly timeline: Timeline;
  /** Aborted when the server is deleted during its build; the driver stops and cleans up after itself. */
  readonly signal: AbortSignal;
}

/** How a server is rescued. */
export interface RescueRequest {
  readonly instance: InstanceSpec;
  /** What it boots from; its properties `hw_rescue_device` and `hw_rescue_bus` ask for a stable device rescue. */
  readonly image: ImageSpec;
  readonly network: NetworkInfo;
  /** As the server's own, with the password of the rescue. */
  readonly identity: InstanceIdentity;
  readonly signal: AbortSignal;
}

/** A copy of a root disk, whole and independent of all other files. Its taker discards it. */
export interface DiskSnapshot {
  readonly path: string;
  readonly diskFormat: 'qcow2';
  readonly sizeBytes: number;
  discard(): Promise<void>;
}

/** Resources of this host for the ComputeNode record and the Placement inventory. */
export interface HostResources {
  readonly vcpus: number;
  readonly memoryMb: number;
  readonly localGb: number;
  readonly localGbUsed: number;
  readonly memoryMbUsed: number;
  readonly diskAvailableLeastGb: number;
  readonly hypervisorType: 'QEMU';
  /** libvirt's number: 7002022 for QEMU 7.2.22. */
  readonly hypervisorVersion: number;
  readonly hypervisorHostname: string;
  /** Shape of Nova's cpu_info JSON: arch, model, vendor, topology, features. */
  readonly cpuInfo: Readonly<Record<string, unknown>>;
  /** [arch, hypervisor, vm_mode], such as ['x86_64', 'qemu', 'hvm']. */
  readonly supportedInstances: readonly (readonly [string, string, string])[];
  /** Placement traits of this host's CPU and driver (`HW_CPU_X86_SSE2`, `COMPUTE_NODE` ...). */
  readonly traits: readonly string[];
}

/** A guest changed its power state without being asked by the service: `shutdown`, `crashed`, `paused` ... */
export interface LifecycleEvent {
  readonly uuid: string;
  readonly kind: 'started' | 'stopped' | 'paused' | 'resumed' | 'crashed';
}

/** What moved over a NIC in one direction since it was plugged in. */
export interface NicCounters {
  readonly bytes: number;
  readonly packets: number;
  readonly errors: number;
  readonly drops: number;
}

/** What a running guest has and has used so far. What the hypervisor cannot tell is missing. */
export interface GuestDiagnostics {
  readonly maxMemoryKib: number;
  readonly memoryKib: number;
  /** Nanoseconds of processor time, by virtual CPU. */
  readonly cpuTimesNs: readonly number[];
  /** libvirt's counters of memory by its names (`rss`, `actual` ...), mostly in KiB. */
  readonly memory: Readonly<Record<string, number>>;
  readonly disks: readonly {
    readonly device: string;
    readonly readRequests: number;
    readonly readBytes: number;
    readonly writeRequests: number;
    readonly writeBytes: number;
    readonly errors: number;
  }[];
  readonly nics: readonly {
    readonly macAddress: string;
    /** The tap; null for a NIC that is not plugged. */
    readonly device: string | null;
    readonly counters: { readonly received: NicCounters; readonly sent: NicCounters } | null;
  }[];
}

/** A NIC or a disk of a guest, and where its guest finds it. */
export interface GuestDevice {
  readonly kind: 'nic' | 'disk';
  /** MAC address of a NIC in lower case; target of a disk: `vda`. */
  readonly name: string;
  /** `pci`: `0000:00:03.0`; `scsi` and `ide`: controller, bus, target and unit, `0:0:0:1`. */
  readonly bus: { readonly type: 'pci' | 'scsi' | 'ide' | 'usb'; readonly address: string | null } | null;
}

/** Consoles by Nova's names. */
export type ConsoleType = 'novnc' | 'spice-html5' | 'serial';

/** Where the proxy of a console connects. */
export interface ConsoleAddress {
  readonly host: string;
  readonly port: number;
}

/**
 * The hypervisor of this host. Every method rejects with an exception of `lib/exceptions.ts`
 * (`HypervisorUnavailable` when libvirtd cannot be reached, `InstanceNotFound` when the domain is not there).
 */
export interface ComputeDriver {
  /** Connects, probes the virtualisation type, and puts in order what a crash left behind. */
  initHost(): Promise<void>;
  close(): Promise<void>;
  /** Whether libvirtd answers right now. */
  ping(): Promise<void>;
  onLifecycle(listener: (event: LifecycleEvent) => void): void;
  /** Hears of the hypervisor's going (false) and coming back (true). */
  onConnection(listener: (connected: boolean) => void): void;
  getAvailableResource(): Promise<HostResources>;
  /** One line as `uptime` prints it (nova: get_host_uptime). */
  getHostUptime(): Promise<string>;

  /** UUIDs of all domains of this hypervisor. */
  listInstanceUuids(): Promise<string[]>;
  /** NOSTATE is never returned for an existing domain; rejects with InstanceNotFound without one. */
  getPowerState(uuid: string): Promise<PowerState>;
  /** Starts a new server; on failure or abort nothing of it is left on the host. */
  spawn(request: SpawnRequest): Promise<SpawnOutcome>;
  /** Ends the guest and removes its domain, disks, console log and taps. Idempotent. */
  destroy(instance: Pick<InstanceSpec, 'uuid' | 'name'>): Promise<void>;
  /** Soft: ask the guest, give it `timeoutMs`; then, or with 0, pull the plug. Idempotent. */
  powerOff(uuid: string, timeoutMs: number): Promise<void>;
  /** Starts a stopped guest from its disk, with all that its flavor and network ask for. */
  powerOn(instance: InstanceSpec, network: NetworkInfo): Promise<void>;
  /** Soft asks the guest and resolves to false when it did not react in `timeoutMs`. */
  softReboot(instance: InstanceSpec, timeoutMs: number): Promise<boolean>;
  /** Destroys and starts the domain anew from a freshly made definition. */
  hardReboot(instance: InstanceSpec, network: NetworkInfo): Promise<void>;
  pause(uuid: string): Promise<void>;
  unpause(uuid: string): Promise<void>;
  /**
   * Removes base images that no disk on this host lies over, that are not of `imagesInUse`, and that were not used for
   * `minimumAgeMs`. @returns how many
   */
  removeUnusedImages(imagesInUse: ReadonlySet<string>, minimumAgeMs: number): Promise<number>;
  /** Fetches an image for later; false when it is here already. */
  cacheImage(image: ImageSpec, signal?: AbortSignal): Promise<boolean>;
  /** Copies the root disk as it is now, of a running server or a stopped one. On failure or abort nothing is left. */
  snapshot(instance: InstanceSpec, signal: AbortSignal): Promise<DiskSnapshot>;
  /** Ends a snapshot that a killed service had under way. Idempotent. */
  abandonSnapshot(uuid: string): Promise<void>;
  /**
   * Boots a stopped server from another image, with its own disks beside it. What fails leaves it stopped, as it was.
   * Rejects with UnsupportedRescueDevice, UnsupportedRescueBus and what `spawn` has against images.
   */
  rescue(request: RescueRequest): Promise<void>;
  /** Boots a rescued server from its own disk again and removes what the rescue had. May be done again. */
  unrescue(instance: InstanceSpec, network: NetworkInfo): Promise<void>;
  /** Keeps a stopped server's disks aside and lets it go on with copies. On failure or abort it has its own. */
  migrateDisk(uuid: string, signal: AbortSignal): Promise<void>;
  /** Gives the copies the sizes of the new flavor and defines the server anew, started with `powerOn`. */
  finishMigration(instance: InstanceSpec, network: NetworkInfo, powerOn: boolean): Promise<void>;
  /**
   * Ends the guest, puts the disks that were kept in their place and defines the server with its old flavor. A guest that
   * did not get as far as that goes on. May be done again.
   */
  finishRevertMigration(instance: InstanceSpec, network: NetworkInfo, powerOn: boolean): Promise<void>;
  /** Removes the disks that were kept. Idempotent. */
  confirmMigration(uuid: string): Promise<void>;
  /** Writes the guest's memory to disk and ends it. Idempotent. */
  suspend(uuid: string): Promise<void>;
  /** Lets a suspended guest go on where it was; nothing for one that runs. */
  resume(instance: InstanceSpec, network: NetworkInfo): Promise<void>;
  /** Plugs one more port in, for good. On failure nothing of it is left on the host. */
  attachInterface(instance: InstanceSpec, vif: Vif): Promise<void>;
  /** Takes a port's NIC away, for good, once the guest let go of it. Nothing when it has none. */
  detachInterface(uuid: string, vif: Vif): Promise<void>;
  /** The NICs and disks of a server's domain. */
  listDevices(uuid: string): Promise<readonly GuestDevice[]>;
  getDiagnostics(uuid: string): Promise<GuestDiagnostics>;
  /**
   * Has the guest's agent set the password of its administrator.
   * Rejects with QemuGuestAgentNotEnabled or NotImplementedError when there is no agent.
   */
  setAdminPassword(instance: InstanceSpec, password: string): Promise<void>;
  /** Brings a running guest's file systems to rest. Rejects with QemuGuestAgentNotEnabled, or InternalError without an answer. */
  quiesce(instance: InstanceSpec): Promise<void>;
  /** Lets them go on. Rejects as `quiesce`. */
  unquiesce(instance: InstanceSpec): Promise<void>;
  /** Sends the guest an NMI; rejects with InstanceNotRunning or TriggerCrashDumpNotSupported. */
  triggerCrashDump(uuid: string): Promise<void>;
  /** The last `tailLines` lines of the console (all when null). */
  getConsoleOutput(uuid: string, tailLines: number | null): Promise<string>;
  /** Rejects with ConsoleTypeUnavailable, or InstanceNotRunning when there is no such console right now. */
  getConsole(uuid: string, type: ConsoleType): Promise<ConsoleAddress>;
}

/** What a bake starts from. */
export interface TemplateRequest {
  readonly key: string;
  readonly image: ImageSpec;
  readonly memoryMb: number;
  /** Scratch of this bake, for what else the guest needs. The domain of a bake whose scratch is gone is a leftover. */
  readonly directory: string;
  /** Where the guest's RAM lives while it boots; becomes the µVM's RAM. */
  readonly ramPath: string;
  /** Where the disk delta is written. */
  readonly diskDeltaPath: string;
  /** Content of the bake's own config drive (the gate). */
  readonly files: readonly ConfigDriveFile[];
  /** Aborted when the bake is given up; the caller still destroys the guest. */
  readonly signal: AbortSignal;
}

/** One clone of a proof. */
export interface ProofRequest {
  readonly uvm: UvmTemplate;
  readonly image: ImageSpec;
  /** Whom it is to become. */
  readonly identity: InstanceIdentity;
  /** With the network it is to be in; no packet leaves its NIC. */
  readonly network: NetworkInfo;
  /** Scratch for the clone's files, as in `TemplateRequest`. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

/** What became of a clone of a proof. */
export interface ProofClone {
  readonly ready: GuestReady;
  /** What it says about itself. */
  readonly answers: GateAnswers;
  /** What it was given beyond the µVM. */
  readonly given: { readonly vcpus: number; readonly rootBytes: number };
}

/** A guest that is being baked. */
export interface TemplateGuest {
  /** Unix socket of the gate's virtio-serial channel. */
  readonly gateSocketPath: string;
  readonly consoleLogPath: string;
  /** PCI addresses of the devices that the guest is to let go of: its servers find their own there. */
  readonly spares: readonly string[];
  /** The image's own first boot is over; from now on a guest at rest is nothing to worry about. */
  booted(): void;
  /** Pauses the guest and writes its device state; RAM is then complete in `ramPath`. */
  capture(statePath: string): Promise<void>;
  /** Ends the guest; the files stay. Idempotent. */
  destroy(): Promise<void>;
  /**
   * Rejects when the guest ends or restarts by itself, and when its boot has come to rest without the gate having spoken:
   * nothing more is to be expected then. The message says what its console last showed.
   */
  readonly ended: Promise<never>;
}

/** The part of a driver that the baker uses. */
export interface TemplateDriver {
  platform(): Promise<UvmPlatform>;
  /** Boots an image with minimal resources; no guest is left when it rejects. */
  bootTemplate(request: TemplateRequest): Promise<TemplateGuest>;
  /** Restores a clone whose NIC has no carrier, has its gate take an identity, asks who it is, and ends it. */
  proveTemplate(request: ProofRequest): Promise<ProofClone>;
}
