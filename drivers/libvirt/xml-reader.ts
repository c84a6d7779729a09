/** Reads libvirt's XML: a parser whose lists are always lists, and the few facts of a domain that the driver asks for. */
import { XMLParser } from 'fast-xml-parser';
import { z } from 'zod';

const LISTS = new Set([
  'interface',
  'disk',
  'graphics',
  'serial',
  'enum',
  'feature',
  'guest',
  'domain',
  'cell',
  'secmodel',
  'baselabel',
]);
const parser = new XMLParser({
  ignoreAttributes: false,
  attributeNamePrefix: '@',
  textNodeName: '#',
  parseTagValue: false,
  isArray: (name, path) => LISTS.has(name) && path !== name,
});

/** Parses and checks a document of libvirt. */
export function readXml<T>(xml: string, schema: z.ZodType<T>): T {
  return schema.parse(parser.parse(xml));
}

const domainSchema = z.object({
  domain: z.object({
    devices: z.object({
      interface: z.array(z.object({ target: z.object({ '@dev': z.string() }).optional() })).default([]),
      graphics: z.array(z.object({ '@type': z.string(), '@port': z.coerce.number().optional() })).default([]),
      serial: z
        .array(
          z.object({
            '@type': z.string(),
            source: z
              .object({ '@mode': z.string().optional(), '@service': z.coerce.number().optional() })
              .optional(),
          }),
        )
        .default([]),
    }),
  }),
});

/** What a running domain looks like from outside. */
export interface DomainView {
  readonly taps: readonly string[];
  /** TCP ports of the servers of its consoles, null without one. */
  readonly vncPort: number | null;
  readonly spicePort: number | null;
  readonly serialPort: number | null;
}

/** Reads the XML of a running domain. */
export function viewDomain(xml: string): DomainView {
  const { devices } = readXml(xml, domainSchema).domain;
  const graphicsPort = (type: string): number | null =>
    portOf(devices.graphics.find((graphics) => graphics['@type'] === type)?.['@port']);
  const serial = devices.serial.find(
    (found) => found['@type'] === 'tcp' && found.source?.['@mode'] === 'bind',
  );
  return {
    taps: devices.interface.flatMap(({ target }) => (target === undefined ? [] : [target['@dev']])),
    vncPort: graphicsPort('vnc'),
    spicePort: graphicsPort('spice'),
    serialPort: portOf(serial?.source?.['@service']),
  };
}

/** libvirt writes -1 for a port that is not chosen yet. */
function portOf(port: number | undefined): number | null {
  return port !== undefined && port > 0 ? port : null;
}
