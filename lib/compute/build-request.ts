/**
 * What nova-conductor asks for with `build_and_run_instance`, validated once (nova/compute/rpcapi.py, 6.0).
 */
import { z } from 'zod';
import type { ImageSpec } from '../../drivers/driver';
import { BlockDeviceMapping, Instance, NetworkRequest, NovaObjectList, expectObject } from '../objects';
import { imageSpecFromDict } from './instance-spec';

const argsSchema = z.looseObject({
  image: z.unknown(),
  request_spec: z.unknown(),
  filter_properties: z.record(z.string(), z.unknown()).nullish(),
  admin_password: z.string().nullish(),
  /** [path, base64] pairs. */
  injected_files: z.array(z.tuple([z.string(), z.string()])).nullish(),
  security_groups: z.array(z.string()).nullish(),
  host_list: z.array(z.unknown()).nullish(),
});

const imageNameSchema = z
  .looseObject({ name: z.string().catch('') })
  .catch({ name: '' })
  .transform(({ name }) => name);

/** A parsed build request. `raw` are its arguments as they came, for handing the build on to another host. */
export interface BuildRequest {
  readonly instance: Instance;
  readonly image: ImageSpec;
  /** What Glance calls the image; empty without a name. */
  readonly imageName: string;
  readonly adminPassword: string | null;
  readonly injectedFiles: readonly { readonly path: string; readonly content: Buffer }[];
  readonly requestedNetworks: NovaObjectList | null;
  /** Device tag by network or port id, as requested. */
  readonly networkTags: readonly (string | null)[];
  readonly securityGroups: readonly string[];
  readonly blockDevices: readonly BlockDeviceMapping[];
  /** Whether the scheduler kept account of attempts (it does not for a build forced onto a host). */
  readonly retry: Readonly<Record<string, unknown>> | null;
  /** Hosts left to try, in conductor's own form. */
  readonly alternates: readonly unknown[];
  readonly raw: Readonly<Record<string, unknown>>;
}

/** @throws ZodError or UnexpectedObjectError for arguments that are not those of the method */
export function parseBuildRequest(args: Readonly<Record<string, unknown>>): BuildRequest {
  const parsed = argsSchema.parse(args);
  const instance = expectObject(args.instance, Instance);
  const requestedNetworks =
    args.requested_networks === null || args.requested_networks === undefined
      ? null
      : expectObject(args.requested_networks, NovaObjectList);
  const retry = parsed.filter_properties?.retry;
  return {
    instance,
    image: imageSpecFromDict(parsed.image, instance.imageRef),
    imageName: imageNameSchema.parse(parsed.image),
    adminPassword: parsed.admin_password ?? null,
    injectedFiles: (parsed.injected_files ?? []).map(([path, content]) => ({
      path,
      content: Buffer.from(content, 'base64'),
    })),
    requestedNetworks,
    networkTags: requestedNetworks?.itemsOf(NetworkRequest).map((request) => request.tag) ?? [],
    securityGroups: parsed.security_groups ?? [],
    blockDevices: expectObject(args.block_device_mapping, NovaObjectList).itemsOf(BlockDeviceMapping),
    retry: isRecord(retry) ? retry : null,
    alternates: parsed.host_list ?? [],
    raw: args,
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
