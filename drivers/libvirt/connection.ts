/**
 * The way to libvirtd: stays connected by itself, delivers domain events across restarts of the daemon, and runs calls
 * with deadlines. While the daemon is away every call fails at once with HypervisorUnavailable.
 */
import type { Logger } from 'pino';
import { HypervisorUnavailable } from '../../lib/exceptions';
import { binding, type Out, type Pointer } from './binding';
import { Domain } from './domain';
import { DomainEvents, uuidOf, type DomainEvent } from './domain-events';
import { useEventLoop } from './event-loop';
import { Lane } from './lane';
import { LanePool } from './lane-pool';

/** What a call may take when nothing else is said. */
export const CALL_DEADLINE_MS = 30_000;
/** Starting a guest includes starting QEMU. */
const CREATE_DEADLINE_MS = 120_000;
const CLOSE_DEADLINE_MS = 10_000;
const RECONNECT_FIRST_MS = 250;
const RECONNECT_LAST_MS = 5_000;
/** VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES */
const EXPAND_FEATURES = 1;
/** VIR_DOMAIN_START_PAUSED */
const START_PAUSED = 1;

export interface ConnectionOptions {
  /** libvirt URI such as `qemu:///system`. */
  readonly uri: string;
  readonly logger: Logger;
}

export type ConnectionState = 'connected' | 'reconnecting' | 'closed';

/** What `domainCapabilities` asks about; null leaves the choice to libvirt. */
export interface CapabilityQuery {
  readonly arch: string | null;
  readonly machine: string | null;
  readonly virtType: 'qemu' | 'kvm';
}

/** A lasting connection to one libvirtd. */
export class LibvirtConnection {
  private currentState: ConnectionState = 'reconnecting';
  private readonly stateListeners = new Set<(state: ConnectionState) => void>();
  private readonly lanes: LanePool;
  private readonly events: DomainEvents;
  private readonly closeHandler: bigint;
  private readonly releaseEventLoop: () => Promise<void>;
  /** The connection that carries events and hears of the daemon's end. */
  private eventLane: Lane | undefined;
  private unsubscribe: (() => Promise<void>) | undefined;
  private reconnectTimer: NodeJS.Timeout | undefined;
  private lives = 0;
  /** Work on the event lane that close() has to wait for. */
  private changing: Promise<void> = Promise.resolve();

  private constructor(private readonly options: ConnectionOptions) {
    this.lanes = new LanePool(options.uri, options.logger);
    this.releaseEventLoop = useEventLoop();
    this.events = new DomainEvents(options.logger);
    this.closeHandler = binding().registerCloseHandler((connection) => this.onHangUp(connection));
  }

  /** Connects; rejects with HypervisorUnavailable when the daemon cannot be reached. */
  static async open(options: ConnectionOptions): Promise<LibvirtConnection> {
    const connection = new LibvirtConnection(options);
    const connecting = connection.connect();
    connection.changing = connecting.catch(() => undefined);
    try {
      if (!(await settlesWithin(connecting, CALL_DEADLINE_MS))) {
        throw new HypervisorUnavailable(`libvirtd at ${options.uri} does not answer`);
      }
    } catch (error) {
      await connection.close();
      throw error;
    }
    return connection;
  }

  get state(): ConnectionState {
    return this.currentState;
  }

  /** Calls that overran their deadline and still hold a thread of the pool. */
  get overdueCalls(): number {
    return this.lanes.overdueCalls;
  }

  /** Hears of every change of `state` until the returned function is called. */
  onState(listener: (state: ConnectionState) => void): () => void {
    this.stateListeners.add(listener);
    return () => this.stateListeners.delete(listener);
  }

  /** Hears of domain events until the returned function is called. Events while the daemon is away are lost. */
  onDomainEvent(listener: (event: DomainEvent) => void): () => void {
    return this.events.listen(listener);
  }

  /**
   * Runs one or more calls, one after the other, on a connection of their own.
   * @param call what it is, for errors and logs
   */
  async use<T>(call: string, deadlineMs: number, work: (lane: Lane) => Promise<T>): Promise<T> {
    if (this.currentState !== 'connected') {
      throw new HypervisorUnavailable(`libvirtd is away (${this.currentState}); ${call} was not tried`);
    }
    return await this.lanes.use(call, deadlineMs, work);
  }

  /** Whether the daemon answers. */
  async ping(deadlineMs = CALL_DEADLINE_MS): Promise<void> {
    await this.libvirtVersion(deadlineMs);
  }

  /** libvirt's number of the daemon: 9000000 for 9.0.0. */
  async libvirtVersion(deadlineMs = CALL_DEADLINE_MS): Promise<number> {
    return await this.use('virConnectGetLibVersion', deadlineMs, async (lane) => {
      const version: Out<number> = [0];
      const answer = binding().virConnectGetLibVersion(lane.connection, version);
      await lane.count('virConnectGetLibVersion', answer);
      return version[0];
    });
  }

  /** libvirt's number of the hypervisor: 7002022 for QEMU 7.2.22. */
  async hypervisorVersion(): Promise<number> {
    return await this.use('virConnectGetVersion', CALL_DEADLINE_MS, async (lane) => {
      const version: Out<number> = [0];
      await lane.count('virConnectGetVersion', binding().virConnectGetVersion(lane.connection, version));
      return version[0];
    });
  }

  /** Host name as libvirt knows it. */
  async hostname(): Promise<string> {
    return await this.use('virConnectGetHostname', CALL_DEADLINE_MS, (lane) =>
      lane.value('virConnectGetHostname', binding().virConnectGetHostname(lane.connection)),
    );
  }

  /** Capabilities of the host, as XML. */
  async capabilities(): Promise<string> {
    return await this.use('virConnectGetCapabilities', CALL_DEADLINE_MS, (lane) =>
      lane.value('virConnectGetCapabilities', binding().virConnectGetCapabilities(lane.connection)),
    );
  }

  /** What guests of one kind can have, as XML; a LibvirtError when the host cannot run them. */
  async domainCapabilities({ arch, machine, virtType }: CapabilityQuery): Promise<string> {
    const call = 'virConnectGetDomainCapabilities';
    return await this.use(call, CALL_DEADLINE_MS, (lane) =>
      lane.value(
        call,
        binding().virConnectGetDomainCapabilities(lane.connection, null, arch, machine, virtType, 0),
      ),
    );
  }

  /** A `<cpu>` element with every feature that the given one implies spelled out. */
  async expandCpu(cpuXml: string): Promise<string> {
    const call = 'virConnectBaselineCPU';
    return await this.use(call, CALL_DEADLINE_MS, (lane) =>
      lane.value(call, binding().virConnectBaselineCPU(lane.connection, [cpuXml], 1, EXPAND_FEATURES)),
    );
  }

  /** Starts a guest that libvirt forgets when it ends. */
  async createXml(xml: string, { paused }: { readonly paused: boolean }): Promise<Domain> {
    return await this.use('virDomainCreateXML', CREATE_DEADLINE_MS, async (lane) => {
      const creating = binding().virDomainCreateXML(lane.connection, xml, paused ? START_PAUSED : 0);
      return this.adopt(await lane.value('virDomainCreateXML', creating));
    });
  }

  /** Makes a guest known for good (or replaces what is known of it), without starting it. */
  async defineXml(xml: string): Promise<Domain> {
    return await this.use('virDomainDefineXMLFlags', CALL_DEADLINE_MS, async (lane) => {
      const defining = binding().virDomainDefineXMLFlags(lane.connection, xml, 0);
      return this.adopt(await lane.value('virDomainDefineXMLFlags', defining));
    });
  }

  /** The guest with this UUID; rejects with InstanceNotFound. */
  async lookupByUuid(uuid: string): Promise<Domain> {
    return await this.use('virDomainLookupByUUIDString', CALL_DEADLINE_MS, async (lane) => {
      const looking = binding().virDomainLookupByUUIDString(lane.connection, uuid);
      return this.adopt(await lane.value('virDomainLookupByUUIDString', looking));
    });
  }

  /** All guests, running or not. */
  async listAll(): Promise<Domain[]> {
    return await this.use('virConnectListAllDomains', CALL_DEADLINE_MS, async (lane) => {
      const array: Out<Pointer> = [null];
      const listing = binding().virConnectListAllDomains(lane.connection, array, 0);
      const count = await lane.count('virConnectListAllDomains', listing);
      if (array[0] === null) return [];
      return binding()
        .takePointers(array[0], count)
        .map((pointer) => this.adopt(pointer));
    });
  }

  /** Has the daemon know a secret, which is then found by what it is used for. */
  async defineSecret(xml: string, value: Buffer): Promise<void> {
    const api = binding();
    await this.use('virSecretDefineXML', CALL_DEADLINE_MS, async (lane) => {
      const defining = api.virSecretDefineXML(lane.connection, xml, 0);
      const secret = await lane.value('virSecretDefineXML', defining);
      try {
        await lane.count('virSecretSetValue', api.virSecretSetValue(secret, value, value.length, 0));
      } finally {
        api.virSecretFree(secret);
      }
    });
  }

  /** Has the daemon forget a secret. @param usageType virSecretUsageType; rejects with a LibvirtError when there is none */
  async undefineSecret(usageType: number, usageId: string): Promise<void> {
    const api = binding();
    await this.use('virSecretUndefine', CALL_DEADLINE_MS, async (lane) => {
      const looking = api.virSecretLookupByUsage(lane.connection, usageType, usageId);
      const secret = await lane.value('virSecretLookupByUsage', looking);
      try {
        await lane.count('virSecretUndefine', api.virSecretUndefine(secret));
      } finally {
        api.virSecretFree(secret);
      }
    });
  }

  /** Ends the connection, or gives it up when the daemon hangs. Idempotent. */
  async close(): Promise<void> {
    if (this.currentState === 'closed') return;
    this.setState('closed');
    clearTimeout(this.reconnectTimer);
    this.changing = this.changing.then(async () => {
      await this.dropEventLane();
      await this.lanes.reset();
      await this.releaseEventLoop();
      this.events.dispose();
      binding().unregisterHandler(this.closeHandler);
    });
    // A daemon that hangs must not keep the service from ending.
    if (!(await settlesWithin(this.changing, CLOSE_DEADLINE_MS))) {
      this.options.logger.warn({ uri: this.options.uri }, 'libvirtd does not let go of its connection');
    }
  }

  /** Takes over a domain handle libvirt gave away: handles are not kept, so that they never outlive a daemon. */
  private adopt(pointer: bigint): Domain {
    const api = binding();
    const domain = new Domain(this, uuidOf(pointer), api.virDomainGetName(pointer));
    api.virDomainFree(pointer);
    return domain;
  }

  private async connect(): Promise<void> {
    this.lives += 1;
    const lane = await Lane.open(this.options.uri, this.lives);
    this.eventLane = lane;
    try {
      this.unsubscribe = await this.events.subscribe(lane);
      const registered = Promise.resolve(
        binding().virConnectRegisterCloseCallback(lane.connection, this.closeHandler),
      );
      await lane.count('virConnectRegisterCloseCallback', registered);
    } catch (error) {
      await this.dropEventLane();
      throw error;
    }
    if (this.currentState !== 'closed') this.setState('connected');
  }

  private onHangUp(connection: Pointer): void {
    if (this.currentState !== 'connected' || connection !== this.eventLane?.connection) return;
    this.options.logger.warn({ uri: this.options.uri }, 'connection to libvirtd lost');
    this.setState('reconnecting');
    this.changing = this.changing.then(async () => {
      await this.dropEventLane();
      await this.lanes.reset();
    });
    this.reconnectIn(RECONNECT_FIRST_MS);
  }

  private reconnectIn(delayMs: number): void {
    this.reconnectTimer = setTimeout(() => {
      this.changing = this.changing.then(async () => {
        if (this.currentState === 'closed') return;
        try {
          await this.connect();
          this.options.logger.info({ uri: this.options.uri }, 'connected to libvirtd again');
        } catch (error) {
          this.options.logger.debug({ err: error }, 'libvirtd is still away');
          if (this.stillAway()) this.reconnectIn(Math.min(delayMs * 2, RECONNECT_LAST_MS));
        }
      });
    }, delayMs);
  }

  private stillAway(): boolean {
    return this.currentState === 'reconnecting';
  }

  private async dropEventLane(): Promise<void> {
    const lane = this.eventLane;
    const unsubscribe = this.unsubscribe;
    this.eventLane = undefined;
    this.unsubscribe = undefined;
    if (lane === undefined) return;
    binding().virConnectUnregisterCloseCallback(lane.connection, this.closeHandler);
    await unsubscribe?.();
    await lane.close();
  }

  private setState(state: ConnectionState): void {
    if (this.currentState === state) return;
    this.currentState = state;
    for (const listener of this.stateListeners) listener(state);
  }
}

/** Whether `work` is done in time; rejects as it does. */
async function settlesWithin(work: Promise<void>, timeoutMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs);
  });
  return await Promise.race([work.then(() => true), late]).finally(() => clearTimeout(timer));
}
