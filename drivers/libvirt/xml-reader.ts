/** Reads libvirt's XML: a parser whose lists are always lists, and the few facts of a domain that the driver asks for. */
import { XMLParser } from 'fast-xml-parser';
import { z } from 'zod';

const LISTS = new Set(['interface', 'disk', 'graphics', 'feature', 'guest', 'domain', 'cell']);
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
    }),
  }),
});

/** What a running domain looks like from outside. */
export interface DomainView {
  readonly taps: readonly string[];
  /** TCP port of the VNC server, null without one. */
  readonly vncPort: number | null;
}

/** Reads the XML of a running domain. */
export function viewDomain(xml: string): DomainView {
  const { devices } = readXml(xml, domainSchema).domain;
  const port = devices.graphics.find((graphics) => graphics['@type'] === 'vnc')?.['@port'];
  return {
    taps: devices.interface.flatMap(({ target }) => (target === undefined ? [] : [target['@dev']])),
    vncPort: port !== undefined && port > 0 ? port : null,
  };
}
