/**
 * Every option that this service reads from nova.conf: name, kind, default, meaning. Parsing, checking and the
 * documentation come from this table; options that are not in it are Nova's business and are left alone.
 *
 * Keys are the options' names in camel case (`my_ip` -> `myIp`).
 */
import { hostname, networkInterfaces } from 'node:os';
import {
  boolean,
  choice,
  computed,
  decimal,
  integer,
  list,
  listenAddress,
  path,
  required,
  text,
  url,
} from './option';

function firstAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((found) => found ?? []);
  return addresses.find((found) => found.family === 'IPv4' && !found.internal)?.address ?? '127.0.0.1';
}

/** How to log in to Keystone, as keystoneauth's password plugin reads it. */
const auth = {
  authSection: text({ default: null, doc: 'Section to take the credentials from instead of this one.' }),
  authUrl: url({ default: null, doc: 'Where Keystone is.' }),
  username: text({ default: null, doc: 'Name of the service user.' }),
  userId: text({ default: null, doc: 'ID of the service user, instead of a name.' }),
  password: text({ default: null, secret: true, doc: 'Password of the service user.' }),
  userDomainName: text({ default: null, doc: 'Domain of the user, by name.' }),
  userDomainId: text({ default: null, doc: 'Domain of the user, by ID.' }),
  projectName: text({ default: null, doc: 'Project to work in, by name.' }),
  projectId: text({ default: null, doc: 'Project to work in, by ID.' }),
  projectDomainName: text({ default: null, doc: 'Domain of the project, by name.' }),
  projectDomainId: text({ default: null, doc: 'Domain of the project, by ID.' }),
  cafile: path({ default: null, doc: 'PEM file with the CAs to trust.' }),
  insecure: boolean({ default: false, doc: 'Do not verify TLS certificates.' }),
  timeout: integer({ default: null, min: 1, doc: 'Seconds that a request may take.' }),
};

/** Which endpoint of a service to use. */
const endpoint = {
  regionName: text({ default: null, doc: 'Region to look for the endpoint in.' }),
  validInterfaces: list({ default: 'internal,public', doc: 'Interfaces of the endpoint, by preference.' }),
  endpointOverride: url({ default: null, doc: 'URL to use instead of the one in the catalogue.' }),
};

export const SECTIONS = {
  default: {
    doc: 'The service itself, by the names Nova gives them.',
    options: {
      host: text({
        default: computed('the name of the host', hostname),
        pattern: /^[A-Za-z0-9_.@-]+$/,
        expects: "a host name (letters, digits and '_', '-', '.', '@')",
        doc: 'Name of this compute host in Nova and of its queue; must be that of the L2 agent on this host.',
      }),
      myIp: text({
        default: computed('the first address of the host', firstAddress),
        doc: 'Address of this host on the management network; shown as host IP of the hypervisor.',
      }),
      transportUrl: text({
        default: required,
        secret: true,
        pattern: /^(rabbits?|amqps?|kombu(\+amqp)?):\/\/[^/]/i,
        expects:
          'rabbit://user:password@host:port/vhost (several user:password@host:port separated by commas)',
        doc: "RabbitMQ of this host's cell.",
      }),
      statePath: path({ default: '/var/lib/nova', doc: 'Where the service keeps its state.' }),
      instancesPath: path({ default: '$state_path/instances', doc: 'Where the disks of the servers are.' }),
      instanceNameTemplate: text({
        default: 'instance-%08x',
        doc: 'Names of the servers in libvirt; a printf of the ID, or `%(uuid)s`.',
      }),
      reportInterval: integer({ default: 10, min: 1, doc: 'Seconds between two signs of life to Nova.' }),
      serviceDownTime: integer({
        default: 60,
        min: 1,
        doc: 'Seconds without a sign of life after which Nova takes a service for dead.',
      }),
      updateResourcesInterval: integer({
        default: 0,
        doc: 'Seconds between two audits of the resources; 0 means every 60 s.',
      }),
      syncPowerStateInterval: integer({
        default: 600,
        doc: 'Seconds between two comparisons of all power states with the database; below 0 turns them off.',
      }),
      healInstanceInfoCacheInterval: integer({
        default: 60,
        doc: "Seconds between two refreshes of one server's network information; 0 or less turns them off.",
      }),
      runningDeletedInstancePollInterval: integer({
        default: 1800,
        doc: 'Seconds between two searches for servers that run though they were deleted.',
      }),
      runningDeletedInstanceAction: choice(['reap', 'shutdown', 'log', 'noop'], {
        default: 'reap',
        doc: 'What becomes of servers that run though they were deleted: removed, switched off, or only told of.',
      }),
      runningDeletedInstanceTimeout: integer({
        default: 0,
        min: 0,
        doc: 'Seconds after its deletion from which such a server is looked at.',
      }),
      instanceBuildTimeout: integer({
        default: 0,
        min: 0,
        doc: 'Seconds after which a server that is still being built is in error; 0 never.',
      }),
      instanceDeleteInterval: integer({
        default: 300,
        doc: 'Seconds between two removals of console tokens that are no longer good; below 0 turns them off.',
      }),
      reclaimInstanceInterval: integer({
        default: 0,
        doc: "Seconds that a deleted server can be restored; must be as nova-api's. 0 or less deletes at once.",
      }),
      shelvedOffloadTime: integer({
        default: 0,
        min: -1,
        doc: 'Seconds that a shelved server stays on this host: 0 takes it off at once, -1 never.',
      }),
      shelvedPollInterval: integer({
        default: 3600,
        min: 1,
        doc: 'Seconds between two looks for shelved servers to take off this host.',
      }),
      resizeConfirmWindow: integer({
        default: 0,
        min: 0,
        doc: 'Seconds after which a resize is confirmed by itself; 0 leaves it to the user.',
      }),
      reservedHostCpus: integer({ default: 0, min: 0, doc: 'CPUs kept for the host.' }),
      reservedHostMemoryMb: integer({ default: 512, min: 0, doc: 'MiB of memory kept for the host.' }),
      reservedHostDiskMb: integer({ default: 0, min: 0, doc: 'MiB of disk kept for the host.' }),
      cpuAllocationRatio: decimal({ default: null, min: 0, doc: 'Virtual CPUs per CPU, always.' }),
      ramAllocationRatio: decimal({
        default: null,
        min: 0,
        doc: 'Memory promised per memory there is, always.',
      }),
      diskAllocationRatio: decimal({
        default: null,
        min: 0,
        doc: 'Disk promised per disk there is, always.',
      }),
      initialCpuAllocationRatio: decimal({ default: '16.0', min: 0, doc: 'The same for a new host.' }),
      initialRamAllocationRatio: decimal({ default: '1.5', min: 0, doc: 'The same for a new host.' }),
      initialDiskAllocationRatio: decimal({ default: '1.0', min: 0, doc: 'The same for a new host.' }),
      vifPluggingTimeout: integer({
        default: 300,
        min: 0,
        doc: 'Seconds to wait until Neutron has wired the ports of a server; 0 does not wait.',
      }),
      vifPluggingIsFatal: boolean({
        default: true,
        doc: 'Whether a server fails when its ports are not wired.',
      }),
      forceConfigDrive: boolean({ default: false, doc: 'Give every server a config drive.' }),
      configDriveFormat: choice(['iso9660'], { default: 'iso9660', doc: 'File system of config drives.' }),
      shutdownTimeout: integer({
        default: 60,
        min: 0,
        doc: 'Seconds that a guest has to shut down before it is switched off.',
      }),
      rebootTimeout: integer({
        default: 0,
        min: 0,
        doc: 'Seconds after which a reboot that nobody works at any more is done the hard way; 0 never.',
      }),
      rescueTimeout: integer({
        default: 0,
        min: 0,
        doc: 'Seconds after which a rescued server is unrescued; 0 never.',
      }),
      instanceUsageAudit: boolean({
        default: false,
        doc: 'Send notifications `compute.instance.exists` of each server once for every audit period.',
      }),
      instanceUsageAuditPeriod: text({
        default: 'month',
        pattern: /^(hour|day|month|year)(@\d{1,2})?$/,
        expects:
          'hour, day, month or year, where need be with @ and the minute, hour, day or month it begins at',
        doc: 'Period of usage audits, in UTC.',
      }),
      maxConcurrentBuilds: integer({
        default: 10,
        min: 0,
        doc: 'Servers built at once; 0 means any number.',
      }),
      rpcResponseTimeout: integer({ default: 60, min: 1, doc: 'Seconds to wait for the answer to a call.' }),
      gracefulShutdownTimeout: integer({
        default: 60,
        min: 0,
        doc: 'Seconds that running operations have to end when the service is told to stop; 0 waits for ever.',
      }),
      resumeGuestsStateOnHostBoot: boolean({
        default: false,
        doc: 'Start the servers that were running when the host went down.',
      }),
      defaultAvailabilityZone: text({ default: 'nova', doc: 'Availability zone of hosts that are in none.' }),
      forceRawImages: boolean({
        default: true,
        doc: 'Convert images to raw before they become the base of disks.',
      }),
      debug: boolean({ default: false, mutable: true, doc: 'Log more.' }),
      useStderr: boolean({ default: false, doc: 'Log to standard error, beside a file.' }),
      useJson: boolean({ default: false, doc: "Log lines of JSON instead of text, with oslo.log's keys." }),
      logFile: text({
        default: null,
        doc: 'File to log to instead of standard output; relative to `log_dir`.',
      }),
      logDir: path({
        default: null,
        doc: 'Directory to log to, into `prebake-compute.log` without `log_file`.',
      }),
    },
  },
  osloMessagingRabbit: {
    doc: 'The connection to RabbitMQ.',
    options: {
      heartbeatTimeoutThreshold: integer({
        default: 60,
        min: 0,
        doc: 'Seconds after which a silent connection is given up; 0 never.',
      }),
      amqpDurableQueues: boolean({
        default: false,
        doc: "Whether queues survive the broker's restart; must be as in all of the cell.",
      }),
      ssl: boolean({ default: false, doc: 'Speak TLS to the broker.' }),
      sslCaFile: path({ default: null, doc: 'PEM file with the CAs to trust.' }),
      sslCertFile: path({ default: null, doc: 'PEM file with the certificate of this service.' }),
      sslKeyFile: path({ default: null, doc: 'PEM file with the key to that certificate.' }),
    },
  },
  osloMessagingNotifications: {
    doc: 'How other services are told what happens to servers.',
    options: {
      driver: list({
        default: '',
        doc: 'messagingv2 to send notifications over RabbitMQ; nothing is sent else.',
      }),
      transportUrl: text({
        default: null,
        secret: true,
        doc: "Another RabbitMQ to send them to than that of this host's cell.",
      }),
      topics: list({ default: 'notifications', doc: 'Topics of legacy notifications.' }),
    },
  },
  notifications: {
    doc: 'What they are told.',
    options: {
      notificationFormat: choice(['unversioned', 'versioned', 'both'], {
        default: 'unversioned',
        doc: 'Legacy notifications, versioned ones, or both.',
      }),
      versionedNotificationsTopics: list({
        default: 'versioned_notifications',
        doc: 'Topics of versioned notifications.',
      }),
    },
  },
  keystoneAuthtoken: {
    doc: "Nova's own service user; used for Glance when `[glance]` and `[service_user]` have no credentials.",
    options: { ...auth, ...endpoint },
  },
  serviceUser: {
    doc: "Service user for work that is done on no user's behalf, such as fetching an image to bake.",
    options: {
      ...auth,
      ...endpoint,
      sendServiceUserToken: boolean({
        default: false,
        doc: "Send a token of the service along with the user's, so that long operations outlive the latter.",
      }),
    },
  },
  placement: { doc: 'The Placement service.', options: { ...auth, ...endpoint } },
  neutron: { doc: 'The Neutron service.', options: { ...auth, ...endpoint } },
  glance: {
    doc: 'The Glance service.',
    options: {
      ...auth,
      ...endpoint,
      apiServers: list({ default: null, doc: 'URLs of Glance, instead of the one in the catalogue.' }),
      numRetries: integer({ default: 3, min: 0, doc: 'How often a failed download is tried again.' }),
      verifyGlanceSignatures: boolean({
        default: false,
        doc: 'Fetch images with a valid signature only; without, those alone whose servers name trusted certificates.',
      }),
      enableCertificateValidation: boolean({
        default: false,
        doc: 'Trust signatures only when their certificate goes back to trusted ones.',
      }),
      defaultTrustedCertificateIds: list({
        default: '',
        doc: 'Certificates to trust, by their IDs in the key manager, for servers that name none.',
      }),
    },
  },
  keyManager: {
    doc: 'Where certificates and secrets are kept.',
    options: {
      backend: text({ default: 'barbican', doc: 'The key manager; only Barbican is asked.' }),
    },
  },
  barbican: {
    doc: "Barbican, by the names of Nova's library castellan. Asked in the name of users, vouched for by `[service_user]`.",
    options: {
      barbicanEndpoint: url({ default: null, doc: 'URL to use instead of the one in the catalogue.' }),
      barbicanEndpointType: choice(['public', 'internal', 'admin'], {
        default: 'public',
        doc: 'Interface of the endpoint.',
      }),
      barbicanRegionName: text({ default: null, doc: 'Region to look for the endpoint in.' }),
      verifySsl: boolean({ default: true, doc: 'Verify TLS certificates.' }),
      verifySslPath: path({ default: null, doc: 'PEM file with the CAs to trust.' }),
    },
  },
  api: {
    doc: 'What servers are told about themselves.',
    options: {
      dhcpDomain: text({ default: 'novalocal', doc: 'Domain that is added to host names; may be empty.' }),
    },
  },
  imageCache: {
    doc: 'Base images, the files that the disks of servers lie over.',
    options: {
      managerInterval: integer({
        default: 2400,
        doc: 'Seconds between two searches for base images that nobody needs; below 0 turns them off.',
      }),
      removeUnusedBaseImages: boolean({ default: true, doc: 'Remove base images that nobody needs.' }),
      removeUnusedOriginalMinimumAgeSeconds: integer({
        default: 86_400,
        min: 0,
        doc: 'Seconds that a base image is kept after its last use; an hour at least.',
      }),
    },
  },
  libvirt: {
    doc: 'The hypervisor.',
    options: {
      virtType: choice(['kvm', 'qemu'], {
        default: 'kvm',
        doc: 'kvm, or qemu for emulation on hosts without hardware virtualisation.',
      }),
      connectionUri: text({ default: 'qemu:///system', doc: 'libvirt to connect to.' }),
      cpuMode: choice(['host-model', 'host-passthrough', 'custom', 'none'], {
        default: null,
        doc: 'CPU that guests see; unset means host-model with kvm and none with qemu.',
      }),
      cpuModels: list({
        default: '',
        doc: 'CPU models to choose from when `cpu_mode` is custom; the first is taken.',
      }),
      imagesType: choice(['default', 'qcow2'], {
        default: 'default',
        doc: 'How disks are kept: qcow2 over a shared base.',
      }),
      fileBackedMemory: integer({
        default: 0,
        min: 0,
        doc: 'MiB of memory that servers get from files (`memory_backing_dir` in qemu.conf), reported as the memory of the host; all servers boot cold. Needs a `ram_allocation_ratio` of 1.0; 0 leaves memory to the host.',
      }),
      injectPartition: integer({
        default: -2,
        min: -2,
        doc: 'Write files, metadata and what the two options below say onto the disks of new servers that have no config drive: onto this partition, 0 for disks without partitions, -1 for the one of the system. Needs `guestfish` and a kernel package on the host; such servers boot cold. -2 leaves disks alone.',
      }),
      injectKey: boolean({ default: false, doc: "Write the user's key into root's `authorized_keys`." }),
      injectPassword: boolean({ default: false, doc: "Set root's password on the disk." }),
      swtpmEnabled: boolean({
        default: false,
        doc: 'Let servers have emulated TPMs: needs `swtpm` and `swtpm-tools` on the host, and a key manager. Such servers boot cold.',
      }),
      swtpmUser: text({ default: 'tss', doc: 'User that `swtpm` runs as: that of `qemu.conf`.' }),
      swtpmGroup: text({ default: 'tss', doc: 'Group that `swtpm` runs as.' }),
      waitSoftRebootSeconds: integer({
        default: 120,
        min: 0,
        doc: 'Seconds that a guest has to shut down in a soft reboot before it is rebooted the hard way.',
      }),
    },
  },
  vnc: {
    doc: 'Consoles.',
    options: {
      enabled: boolean({ default: true, doc: 'Give servers a VNC console.' }),
      serverListen: text({ default: '127.0.0.1', doc: 'Address that the consoles listen on.' }),
      serverProxyclientAddress: text({
        default: '127.0.0.1',
        doc: 'Address under which the console proxy reaches this host.',
      }),
      novncproxyBaseUrl: url({
        default: 'http://127.0.0.1:6080/vnc_auto.html',
        doc: "URL of the console proxy, as users' browsers see it.",
      }),
    },
  },
  spice: {
    doc: 'SPICE consoles; a host gives either these or VNC, as a rule.',
    options: {
      enabled: boolean({ default: false, doc: 'Give servers a SPICE console.' }),
      agentEnabled: boolean({
        default: true,
        doc: "Give servers that boot cold a channel for SPICE's agent in the guest.",
      }),
      serverListen: text({ default: '127.0.0.1', doc: 'Address that the consoles listen on.' }),
      serverProxyclientAddress: text({
        default: '127.0.0.1',
        doc: 'Address under which the console proxy reaches this host.',
      }),
      html5proxyBaseUrl: url({
        default: 'http://127.0.0.1:6082/spice_auto.html',
        doc: "URL of the console proxy, as users' browsers see it.",
      }),
    },
  },
  serialConsole: {
    doc: 'Serial consoles that can be written to.',
    options: {
      enabled: boolean({ default: false, doc: 'Have the serial ports of servers listen on TCP.' }),
      portRange: text({
        default: '10000:20000',
        pattern: /^\d{1,5}:\d{1,5}$/,
        expects: 'first port, colon, port after the last',
        doc: 'TCP ports for them.',
      }),
      proxyclientAddress: text({
        default: '127.0.0.1',
        doc: 'Address that they listen on, and under which the console proxy reaches this host.',
      }),
      baseUrl: text({
        default: 'ws://127.0.0.1:6083/',
        pattern: /^wss?:\/\//,
        expects: 'a ws:// or wss:// URL',
        doc: 'URL of the console proxy, as users see it.',
      }),
    },
  },
  consoleauth: {
    doc: 'Leave to open consoles.',
    options: {
      tokenTtl: integer({ default: 600, min: 0, doc: 'Seconds that a console URL is valid.' }),
    },
  },
  prebake: {
    doc: 'What Nova has no option for. An unknown option in this section is an error.',
    options: {
      bake: choice(['auto', 'tagged', 'all', 'never'], {
        default: 'auto',
        mutable: true,
        doc:
          'Which images get a µVM: those a server is booted from (auto), those with the tag `prebake` or the property ' +
          '`prebake=always` (tagged), all of them, or none. An image with `prebake=never` gets none anyway.',
      }),
      cacheDirectory: path({ default: '$state_path/prebake', doc: 'Where µVMs are kept.' }),
      materialisedBudgetMb: integer({
        default: 51_200,
        min: 0,
        mutable: true,
        doc: 'MiB of disk for µVMs written out for servers; the least recently used that no server runs on go first.',
      }),
      baseMemoryMb: integer({
        default: 512,
        min: 128,
        max: 65_536,
        doc: 'MiB of memory that µVMs are baked with; flavors with less boot cold.',
      }),
      maxVcpus: integer({
        default: 16,
        min: 1,
        max: 255,
        doc: 'Virtual CPUs that a µVM can grow to; flavors with more boot cold.',
      }),
      maxMemoryMb: integer({
        default: 65_536,
        min: 128,
        max: 4_194_304,
        doc: 'MiB of memory that a µVM can grow to; flavors with more boot cold.',
      }),
      bakeTimeoutS: integer({
        default: 900,
        min: 1,
        mutable: true,
        doc: 'Seconds that a bake may take; an image can say otherwise by its property prebake_bake_timeout_s.',
      }),
      uvmMaxAgeDays: integer({
        default: 30,
        min: 0,
        mutable: true,
        doc: 'Days after which a µVM is baked anew when a server asks for it, so that what its clones share does not stay the same for ever; 0 means never.',
      }),
      gateTimeoutS: integer({
        default: 180,
        min: 1,
        doc: 'Seconds that a restored guest has to take its new identity.',
      }),
      sweepIntervalS: integer({
        default: 3600,
        min: 10,
        doc: 'Seconds between two looks for images and µVMs that came or went without being announced to this host.',
      }),
      notificationsTransportUrl: text({
        default: null,
        secret: true,
        pattern: /^(rabbits?|amqps?|kombu(\+amqp)?):\/\/[^/]/i,
        expects: 'rabbit://user:password@host:port/vhost',
        doc: "RabbitMQ that Glance's notifications are heard at; unset means `[DEFAULT] transport_url`.",
      }),
      objectStore: choice(['none', 'swift'], {
        default: 'none',
        doc: "Where hosts share µVMs: nowhere, or in the cloud's object store (Swift, or Ceph's RGW with its API).",
      }),
      objectStoreContainer: text({
        default: 'prebake',
        pattern: /^[A-Za-z0-9_.-]{1,64}$/,
        expects: "a container's name (letters, digits and '_', '-', '.')",
        doc: 'Container of the µVMs, in the project of the service user. Who can write there decides what guests run.',
      }),
      fetchLimitMibS: integer({
        default: 100,
        min: 0,
        doc: 'MiB a second that are fetched from the object store at most; 0 sets no limit.',
      }),
      uploadLimitMibS: integer({
        default: 100,
        min: 0,
        doc: 'MiB a second that are sent to the object store at most; 0 sets no limit.',
      }),
      sidecarListen: listenAddress({
        default: '127.0.0.1:8790',
        doc: 'Address of page, health checks and metrics; anywhere but on loopback `sidecar_token` is required.',
      }),
      sidecarToken: text({
        default: null,
        secret: true,
        pattern: /^[\x21-\x7e]{16,}$/,
        expects: 'at least 16 characters without blanks',
        doc: 'Token that page and metrics ask for; without it all local users can read them.',
      }),
      otlpEndpoint: url({
        default: null,
        doc: 'Collector that traces of boots and bakes are sent to by OTLP over HTTP, such as http://127.0.0.1:4318; unset sends none.',
      }),
    },
  },
};
