/** Neutron's metadata service for one server: what its config drive would hold, over HTTP at the address all clouds use. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { promisify } from 'node:util';
import type { InstanceIdentity } from '../../drivers/driver';

const run = promisify(execFile);
const ADDRESS = '169.254.169.254';

/** Answers until it is closed. */
export interface MetadataService {
  /** Paths that were asked for, in order. */
  readonly asked: readonly string[];
  close(): Promise<void>;
}

/** @param bridge of this machine, on which the guests find the service */
export async function serveMetadata(bridge: string, identity: InstanceIdentity): Promise<MetadataService> {
  await run('ip', ['address', 'replace', `${ADDRESS}/32`, 'dev', bridge]);
  const pages = new Map<string, Buffer | string>([
    ['/openstack', 'latest'],
    ['/latest/meta-data', 'instance-id\nlocal-hostname'],
    ['/latest/meta-data/instance-id', 'i-00000001'],
    ['/latest/meta-data/local-hostname', identity.hostname],
    ...identity.files.map(({ path, content }) => [`/${path}`, content] as const),
  ]);
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const path = (request.url ?? '').replace(/\/+$/, '').replace(/^\/2009-04-04\//, '/latest/');
    asked.push(path);
    const page = pages.get(path);
    response.statusCode = page === undefined ? 404 : 200;
    response.end(page);
  });
  server.listen(80, ADDRESS);
  await once(server, 'listening');
  return {
    asked,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await run('ip', ['address', 'delete', `${ADDRESS}/32`, 'dev', bridge]).catch(() => undefined);
    },
  };
}
