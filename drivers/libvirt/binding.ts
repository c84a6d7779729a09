/**
 * libvirt's C API as typed functions: `libvirt.so.0` and `libvirt-qemu.so.0` loaded through koffi.
 *
 * Two kinds of functions: those that may talk to the daemon run on libuv's thread pool and return promises; those that
 * only read memory of this process are called in place. Nothing here interprets results, deadlines or errors: that is
 * `lane.ts`. Nobody outside this folder imports this file.
 *
 * Each call in flight holds one thread of the pool, the event loop (`event-loop.ts`) one more for good. The service and the
 * tests therefore raise `UV_THREADPOOL_SIZE` before the pool is first used; the default of four starves file access.
 */
import { createRequire } from 'node:module';
import type koffiModule from 'koffi' with { 'resolution-mode': 'import' };

// koffi declares its types for ES modules only, though it ships a CommonJS build.
const koffi = createRequire(__filename)('koffi') as typeof koffiModule;

/** Address of something libvirt owns; null as in C. */
export type Pointer = bigint | null;

/** An output argument: libvirt writes the first element. */
export type Out<T> = [T];

/** virError, as far as it is used (libvirt/virterror.h). */
export interface RawError {
  readonly code: number;
  readonly domain: number;
  readonly message: string | null;
}

type Async<A extends unknown[], R> = (...args: A) => Promise<R>;

/** The functions in use, under libvirt's own names. */
export type Binding = ReturnType<typeof load>;

function load() {
  const libvirt = koffi.load('libvirt.so.0');
  const qemu = koffi.load('libvirt-qemu.so.0');

  const errorType = koffi.struct({
    code: 'int',
    domain: 'int',
    message: 'str',
    level: 'int',
    conn: 'void *',
    dom: 'void *',
    str1: 'str',
    str2: 'str',
    str3: 'str',
    int1: 'int',
    int2: 'int',
    net: 'void *',
  });
  const errorHandler = koffi.pointer(koffi.proto('void', ['void *', 'void *']));
  const closeHandler = koffi.pointer(koffi.proto('void', ['void *', 'int', 'void *']));
  const timeoutHandler = koffi.pointer(koffi.proto('void', ['int', 'void *']));
  const lifecycleHandler = koffi.pointer(koffi.proto('int', ['void *', 'void *', 'int', 'int', 'void *']));
  const deviceHandler = koffi.pointer(koffi.proto('void', ['void *', 'void *', 'str', 'void *']));

  const async = <A extends unknown[], R>(declaration: string, library = libvirt): Async<A, R> => {
    const { async: call } = library.func(declaration);
    return (...args) =>
      new Promise<R>((resolve, reject) => {
        call(...args, (error: unknown, result: R) => {
          if (error === null || error === undefined) resolve(result);
          else reject(error instanceof Error ? error : new Error('A foreign function call failed'));
        });
      });
  };
  /** The pointer is the domain handle. */
  const onDomain = <A extends unknown[] = []>(name: string, parameters = '') =>
    async<[domain: Pointer, ...A], number>(`int ${name}(void *domain${parameters})`);

  const connGetLastError = libvirt.func('void *virConnGetLastError(void *conn)') as (
    connection: Pointer,
  ) => Pointer;
  const setErrorFunc = libvirt.func('virSetErrorFunc', 'void', ['void *', errorHandler]);
  const connSetErrorFunc = libvirt.func('virConnSetErrorFunc', 'void', ['void *', 'void *', errorHandler]);
  const registerClose = libvirt.func('virConnectRegisterCloseCallback', 'int', [
    'void *',
    closeHandler,
    'void *',
    'void *',
  ]);
  const addTimeout = libvirt.func('virEventAddTimeout', 'int', ['int', timeoutHandler, 'void *', 'void *']);

  return {
    // --- errors: see lane.ts for how they are told apart
    onUnattributedError(listener: (error: RawError) => void): void {
      const handler = (_opaque: Pointer, error: Pointer): void =>
        listener(koffi.decode(error, errorType) as RawError);
      setErrorFunc(null, koffi.register(handler, errorHandler));
    },
    /** A handler for `virConnSetErrorFunc`, which otherwise prints to standard error. */
    silentHandler: koffi.register(() => undefined, errorHandler),
    virConnSetErrorFunc: connSetErrorFunc as (connection: Pointer, opaque: null, handler: bigint) => void,
    lastErrorOf(connection: Pointer): RawError | null {
      const error = connGetLastError(connection);
      return error === null ? null : (koffi.decode(error, errorType) as RawError);
    },

    // --- event loop
    virEventRegisterDefaultImpl: libvirt.func('int virEventRegisterDefaultImpl()') as () => number,
    virEventRunDefaultImpl: async<[], number>('int virEventRunDefaultImpl()'),
    virEventAddTimeout(frequencyMs: number, handler: (timer: number) => void): number {
      return addTimeout(frequencyMs, koffi.register(handler, timeoutHandler), null, null) as number;
    },
    virEventUpdateTimeout: libvirt.func('void virEventUpdateTimeout(int timer, int frequency)') as (
      timer: number,
      frequencyMs: number,
    ) => void,

    // --- connection
    virConnectOpen: async<[uri: string], Pointer>('void *virConnectOpen(const char *name)'),
    virConnectClose: async<[connection: Pointer], number>('int virConnectClose(void *conn)'),
    virConnectIsAlive: async<[connection: Pointer], number>('int virConnectIsAlive(void *conn)'),
    virConnectSetKeepAlive: async<[connection: Pointer, intervalS: number, count: number], number>(
      'int virConnectSetKeepAlive(void *conn, int interval, unsigned int count)',
    ),
    virConnectRegisterCloseCallback(connection: Pointer, handler: bigint): number {
      return registerClose(connection, handler, null, null) as number;
    },
    virConnectUnregisterCloseCallback: libvirt.func(
      'int virConnectUnregisterCloseCallback(void *conn, void *cb)',
    ) as (connection: Pointer, handler: bigint) => number,
    virConnectGetVersion: async<[connection: Pointer, version: Out<number>], number>(
      'int virConnectGetVersion(void *conn, _Out_ unsigned long *hvVer)',
    ),
    virConnectGetLibVersion: async<[connection: Pointer, version: Out<number>], number>(
      'int virConnectGetLibVersion(void *conn, _Out_ unsigned long *libVer)',
    ),
    virConnectGetHostname: async<[connection: Pointer], string | null>(
      'str! virConnectGetHostname(void *conn)',
    ),
    virConnectGetCapabilities: async<[connection: Pointer], string | null>(
      'str! virConnectGetCapabilities(void *conn)',
    ),
    virConnectGetDomainCapabilities: async<
      [
        connection: Pointer,
        emulator: string | null,
        arch: string | null,
        machine: string | null,
        virtType: string | null,
        flags: number,
      ],
      string | null
    >(
      'str! virConnectGetDomainCapabilities(void *conn, const char *emulator, const char *arch, const char *machine, const char *virttype, unsigned int flags)',
    ),
    virConnectBaselineCPU: async<
      [connection: Pointer, cpus: readonly string[], count: number, flags: number],
      string | null
    >('str! virConnectBaselineCPU(void *conn, const char **cpus, unsigned int count, unsigned int flags)'),
    virConnectListAllDomains: async<[connection: Pointer, domains: Out<Pointer>, flags: number], number>(
      'int virConnectListAllDomains(void *conn, _Out_ void **domains, unsigned int flags)',
    ),
    virConnectDomainEventRegisterAny: async<
      [connection: Pointer, domain: null, eventId: number, handler: bigint, opaque: null, freeHandler: null],
      number
    >(
      'int virConnectDomainEventRegisterAny(void *conn, void *dom, int eventID, void *cb, void *opaque, void *freecb)',
    ),
    virConnectDomainEventDeregisterAny: async<[connection: Pointer, callbackId: number], number>(
      'int virConnectDomainEventDeregisterAny(void *conn, int callbackID)',
    ),

    // --- secrets
    virSecretDefineXML: async<[connection: Pointer, xml: string, flags: number], Pointer>(
      'void *virSecretDefineXML(void *conn, const char *xml, unsigned int flags)',
    ),
    virSecretLookupByUsage: async<[connection: Pointer, usageType: number, usageId: string], Pointer>(
      'void *virSecretLookupByUsage(void *conn, int usageType, const char *usageID)',
    ),
    virSecretSetValue: async<[secret: Pointer, value: Buffer, sizeBytes: number, flags: number], number>(
      'int virSecretSetValue(void *secret, const uint8_t *value, size_t value_size, unsigned int flags)',
    ),
    virSecretUndefine: async<[secret: Pointer], number>('int virSecretUndefine(void *secret)'),
    virSecretFree: libvirt.func('int virSecretFree(void *secret)') as (secret: Pointer) => number,

    // --- domains
    virDomainCreateXML: async<[connection: Pointer, xml: string, flags: number], Pointer>(
      'void *virDomainCreateXML(void *conn, const char *xml, unsigned int flags)',
    ),
    virDomainDefineXMLFlags: async<[connection: Pointer, xml: string, flags: number], Pointer>(
      'void *virDomainDefineXMLFlags(void *conn, const char *xml, unsigned int flags)',
    ),
    virDomainLookupByUUIDString: async<[connection: Pointer, uuid: string], Pointer>(
      'void *virDomainLookupByUUIDString(void *conn, const char *uuid)',
    ),
    virDomainFree: libvirt.func('int virDomainFree(void *domain)') as (domain: Pointer) => number,
    virDomainGetUUIDString: libvirt.func('int virDomainGetUUIDString(void *domain, _Out_ char *buf)') as (
      domain: Pointer,
      text: Buffer,
    ) => number,
    virDomainGetName: libvirt.func('const char *virDomainGetName(void *domain)') as (
      domain: Pointer,
    ) => string,
    virDomainCreateWithFlags: onDomain<[flags: number]>('virDomainCreateWithFlags', ', unsigned int flags'),
    virDomainSuspend: onDomain('virDomainSuspend'),
    virDomainResume: onDomain('virDomainResume'),
    virDomainDestroyFlags: onDomain<[flags: number]>('virDomainDestroyFlags', ', unsigned int flags'),
    virDomainShutdownFlags: onDomain<[flags: number]>('virDomainShutdownFlags', ', unsigned int flags'),
    virDomainReboot: onDomain<[flags: number]>('virDomainReboot', ', unsigned int flags'),
    virDomainReset: onDomain<[flags: number]>('virDomainReset', ', unsigned int flags'),
    virDomainUndefineFlags: onDomain<[flags: number]>('virDomainUndefineFlags', ', unsigned int flags'),
    virDomainIsPersistent: onDomain('virDomainIsPersistent'),
    virDomainHasManagedSaveImage: onDomain<[flags: number]>(
      'virDomainHasManagedSaveImage',
      ', unsigned int flags',
    ),
    virDomainManagedSaveRemove: onDomain<[flags: number]>(
      'virDomainManagedSaveRemove',
      ', unsigned int flags',
    ),
    virDomainManagedSave: onDomain<[flags: number]>('virDomainManagedSave', ', unsigned int flags'),
    virDomainManagedSaveGetXMLDesc: async<[domain: Pointer, flags: number], string | null>(
      'str! virDomainManagedSaveGetXMLDesc(void *domain, unsigned int flags)',
    ),
    virDomainManagedSaveDefineXML: onDomain<[xml: string, flags: number]>(
      'virDomainManagedSaveDefineXML',
      ', const char *xml, unsigned int flags',
    ),
    virDomainInjectNMI: onDomain<[flags: number]>('virDomainInjectNMI', ', unsigned int flags'),
    virDomainSetUserPassword: onDomain<[user: string, password: string, flags: number]>(
      'virDomainSetUserPassword',
      ', const char *user, const char *password, unsigned int flags',
    ),
    virDomainSetTime: onDomain<[seconds: number, nanoseconds: number, flags: number]>(
      'virDomainSetTime',
      ', long long seconds, unsigned int nseconds, unsigned int flags',
    ),
    // Structures are filled into a buffer; whoever calls knows their layout.
    virDomainGetInfo: onDomain<[info: Buffer]>('virDomainGetInfo', ', _Out_ uint8_t *info'),
    virDomainGetVcpus: onDomain<[info: Buffer, maxInfo: number, cpuMaps: null, mapLength: number]>(
      'virDomainGetVcpus',
      ', _Out_ uint8_t *info, int maxinfo, void *cpumaps, int maplen',
    ),
    virDomainBlockStats: onDomain<[disk: string, stats: Buffer, sizeBytes: number]>(
      'virDomainBlockStats',
      ', const char *disk, _Out_ uint8_t *stats, size_t size',
    ),
    virDomainInterfaceStats: onDomain<[device: string, stats: Buffer, sizeBytes: number]>(
      'virDomainInterfaceStats',
      ', const char *device, _Out_ uint8_t *stats, size_t size',
    ),
    virDomainMemoryStats: onDomain<[stats: Buffer, maxStats: number, flags: number]>(
      'virDomainMemoryStats',
      ', _Out_ uint8_t *stats, unsigned int nr_stats, unsigned int flags',
    ),
    virDomainAttachDeviceFlags: onDomain<[xml: string, flags: number]>(
      'virDomainAttachDeviceFlags',
      ', const char *xml, unsigned int flags',
    ),
    virDomainDetachDeviceFlags: onDomain<[xml: string, flags: number]>(
      'virDomainDetachDeviceFlags',
      ', const char *xml, unsigned int flags',
    ),
    virDomainUpdateDeviceFlags: onDomain<[xml: string, flags: number]>(
      'virDomainUpdateDeviceFlags',
      ', const char *xml, unsigned int flags',
    ),
    virDomainSetVcpusFlags: onDomain<[vcpus: number, flags: number]>(
      'virDomainSetVcpusFlags',
      ', unsigned int nvcpus, unsigned int flags',
    ),
    virDomainSetMemoryFlags: onDomain<[kib: number, flags: number]>(
      'virDomainSetMemoryFlags',
      ', unsigned long memory, unsigned int flags',
    ),
    virDomainBlockResize: onDomain<[disk: string, sizeBytes: number, flags: number]>(
      'virDomainBlockResize',
      ', const char *disk, unsigned long long size, unsigned int flags',
    ),
    virDomainBackupBegin: onDomain<[backupXml: string, checkpointXml: null, flags: number]>(
      'virDomainBackupBegin',
      ', const char *backupXML, const char *checkpointXML, unsigned int flags',
    ),
    virDomainAbortJob: onDomain('virDomainAbortJob'),
    virDomainGetJobStats: onDomain<
      [type: Out<number>, parameters: Out<Pointer>, count: Out<number>, flags: number]
    >(
      'virDomainGetJobStats',
      ', _Out_ int *type, _Out_ void **params, _Out_ int *nparams, unsigned int flags',
    ),
    virTypedParamsFree: libvirt.func('void virTypedParamsFree(void *params, int nparams)') as (
      parameters: Pointer,
      count: number,
    ) => void,
    virDomainFSFreeze: onDomain<[mountpoints: null, count: number, flags: number]>(
      'virDomainFSFreeze',
      ', void *mountpoints, unsigned int nmountpoints, unsigned int flags',
    ),
    virDomainFSThaw: onDomain<[mountpoints: null, count: number, flags: number]>(
      'virDomainFSThaw',
      ', void *mountpoints, unsigned int nmountpoints, unsigned int flags',
    ),
    virDomainGetState: onDomain<[state: Out<number>, reason: Out<number>, flags: number]>(
      'virDomainGetState',
      ', _Out_ int *state, _Out_ int *reason, unsigned int flags',
    ),
    virDomainGetXMLDesc: async<[domain: Pointer, flags: number], string | null>(
      'str! virDomainGetXMLDesc(void *domain, unsigned int flags)',
    ),
    virDomainQemuMonitorCommand: async<
      [domain: Pointer, command: string, result: Out<Pointer>, flags: number],
      number
    >(
      'int virDomainQemuMonitorCommand(void *domain, const char *cmd, _Out_ void **result, unsigned int flags)',
      qemu,
    ),
    virDomainQemuMonitorCommandWithFiles: async<
      [
        domain: Pointer,
        command: string,
        fileCount: number,
        files: Int32Array,
        outCount: null,
        outFiles: null,
        result: Out<Pointer>,
        flags: number,
      ],
      number
    >(
      'int virDomainQemuMonitorCommandWithFiles(void *domain, const char *cmd, unsigned int ninfiles, int *infiles, void *noutfiles, void *outfiles, _Out_ void **result, unsigned int flags)',
      qemu,
    ),

    // --- callbacks and memory
    registerCloseHandler: (handler: (connection: Pointer, reason: number) => void): bigint =>
      koffi.register(handler, closeHandler),
    registerLifecycleHandler: (
      handler: (connection: Pointer, domain: Pointer, event: number, detail: number) => number,
    ): bigint => koffi.register(handler, lifecycleHandler),
    registerDeviceHandler: (handler: (connection: Pointer, domain: Pointer, alias: string) => void): bigint =>
      koffi.register(handler, deviceHandler),
    unregisterHandler: (handler: bigint): void => koffi.unregister(handler),
    /** Copies a string that libvirt allocated for the caller, and frees it. */
    takeString(text: bigint): string {
      const copy = koffi.decode.string(text);
      koffi.free(text);
      return copy;
    },
    /** Copies an array of `count` pointers that libvirt allocated for the caller, and frees the array. */
    takePointers(array: bigint, count: number): bigint[] {
      const copy = koffi.decode(array, 'void *', count) as bigint[];
      koffi.free(array);
      return copy;
    },
  };
}

let loaded: Binding | undefined;

/** The binding, loaded on first use; fails with the package to install when libvirt's client library is missing. */
export function binding(): Binding {
  try {
    return (loaded ??= load());
  } catch (error) {
    throw new Error('The libvirt client library cannot be loaded (package libvirt0)', { cause: error });
  }
}
