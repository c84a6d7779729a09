/**
 * Consoles: the text a guest wrote, and leave to look at its screen or to type (nova/compute/manager.py: get_console_output,
 * get_vnc_console, get_spice_console, get_serial_console, validate_console_port).
 */
import { z } from 'zod';
import type { ComputeDriver, ConsoleAddress, ConsoleType } from '../../drivers/driver';
import {
  ConsoleTypeInvalid,
  ConsoleTypeUnavailable,
  InstanceNotFound,
  InstanceNotReady,
  InstanceNotRunning,
} from '../exceptions';
import type { RequestContext } from '../messaging';
import type { Instance } from '../objects';
import type { InstanceRecords } from './instance-records';

/** The operator's options that concern consoles. */
export interface ConsoleOptions {
  /** Where the proxies of the consoles are; null for a type that this host does not give. */
  readonly baseUrls: Readonly<Record<ConsoleType, string | null>>;
  /** How long a console token is good (`[consoleauth] token_ttl`). */
  readonly tokenTtlS: number;
}

/** What nova-api gives to the user's browser. */
export interface ConsoleConnection {
  readonly host: string;
  readonly port: string;
  readonly internal_access_path: null;
  readonly token: string;
  readonly access_url: string;
}

const TYPES: readonly ConsoleType[] = ['novnc', 'spice-html5', 'serial'];
const tailSchema = z.coerce.number().int().nullish();

/** Answers questions about consoles. */
export class Consoles {
  constructor(
    private readonly driver: ComputeDriver,
    private readonly records: InstanceRecords,
    private readonly options: ConsoleOptions,
  ) {}

  /** @param tailLength lines from the end; null or -1 for all of them */
  async output(instance: Instance, tailLength: unknown): Promise<string> {
    const lines = tailSchema.parse(tailLength) ?? null;
    return this.driver.getConsoleOutput(instance.uuid, lines !== null && lines >= 0 ? lines : null);
  }

  /**
   * Leave to open a console of this type.
   * @param family the request's: it fixes what `consoleType` may be
   * @throws ConsoleTypeUnavailable, ConsoleTypeInvalid for another type, InstanceNotReady for a server that is off
   */
  async connect(
    context: RequestContext,
    instance: Instance,
    family: ConsoleType,
    consoleType: unknown,
  ): Promise<ConsoleConnection> {
    const baseUrl = this.options.baseUrls[family];
    if (baseUrl === null)
      throw new ConsoleTypeUnavailable(`Unavailable console type ${String(consoleType)}.`);
    if (consoleType !== family) throw new ConsoleTypeInvalid(`Invalid console type ${String(consoleType)}.`);
    const { host, port } = await this.address(instance, family);
    const token = await this.records.authorizeConsole(
      context,
      {
        console_type: family,
        host,
        port,
        internal_access_path: null,
        instance_uuid: instance.uuid,
        access_url_base: baseUrl,
      },
      this.options.tokenTtlS,
    );
    return {
      host,
      port: String(port),
      internal_access_path: null,
      token: token.token,
      access_url: token.accessUrl,
    };
  }

  /** Kinds of consoles that no server of this hypervisor has (RDP, MKS). @throws ConsoleTypeUnavailable */
  unavailable(consoleType: unknown): Promise<never> {
    return Promise.reject(new ConsoleTypeUnavailable(`Unavailable console type ${String(consoleType)}.`));
  }

  /** Whether `port` is (still) that of the server's console: the proxy asks before it connects. */
  async validatePort(instance: Instance, port: unknown, consoleType: unknown): Promise<boolean> {
    const type = TYPES.find((known) => known === consoleType);
    if (type === undefined || this.options.baseUrls[type] === null) return false;
    try {
      const console = await this.driver.getConsole(instance.uuid, type);
      return String(console.port) === String(port);
    } catch (error) {
      if (error instanceof InstanceNotFound || error instanceof InstanceNotRunning) return false;
      throw error;
    }
  }

  private async address(instance: Instance, type: ConsoleType): Promise<ConsoleAddress> {
    try {
      return await this.driver.getConsole(instance.uuid, type);
    } catch (error) {
      if (!(error instanceof InstanceNotRunning) && !(error instanceof InstanceNotFound)) throw error;
      throw new InstanceNotReady(`Instance ${instance.uuid} is not running`, { cause: error });
    }
  }
}
