/** The `prebake` command: its sub-commands, options and help. What they do is in the files beside this one. */
import { Command } from 'commander';
import { bake } from './bake-command';
import { showBoots } from './boots-command';
import { ConfigPathOptions, configurationReference, sampleConfiguration } from '../config';
import { metricsReference } from '../sidecar';
import { commandReference } from './command-reference';
import { type Examination, doctor } from './doctor-command';
import { collectCache, listCache, removeFromCache, showCache, verifyCache } from './cache-commands';
import { pullUvms, pushUvms } from './hoard-commands';
import type { Cache, Host, OpenHost } from './host';
import type { Output } from './output';

export interface ProgramParts {
  readonly version: string;
  readonly openHost: OpenHost;
  /** The checks of this host; a wrong configuration is one of their findings. */
  readonly openDoctor: (configFiles: readonly string[]) => Promise<Examination>;
  /** Used when no --config-file is given; of these, those that exist. */
  readonly defaultConfigFiles: () => Promise<readonly string[]>;
  readonly output: Output;
  /** Fires when the user wants the command to end. */
  readonly signal: AbortSignal;
}

interface JsonOption {
  readonly json?: true;
}

const JSON_OPTION = ['--json', 'print the result as JSON'] as const;

/** Builds the command; parsing its arguments runs it. */
export function buildProgram(parts: ProgramParts): Command {
  const { output } = parts;
  const configPaths = new ConfigPathOptions();
  const program = new Command('prebake')
    .description('Makes, lists and checks the prebaked µVMs of this compute host.')
    .version(parts.version)
    .addOption(configPaths.file)
    .addOption(configPaths.directory)
    .configureOutput({
      writeOut: (text) => void output.stdout.write(text),
      writeErr: (text) => void output.stderr.write(text),
    })
    .exitOverride()
    .showHelpAfterError("See 'prebake --help'.")
    .addHelpText(
      'after',
      `
Examples:
  prebake bake debian-12            boot the image once, keep it as a µVM; servers of it then start from that
  prebake cache ls                  what is kept
  prebake cache pull debian-12      fetch the image's µVM from the object store
  prebake boots                     how the last servers started
  prebake boots SERVER-UUID         where the milliseconds of one went
  prebake config check              is the configuration right?
  prebake doctor                    what is missing on this host, and the fix

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.`,
    );

  const configFiles = async (): Promise<readonly string[]> => {
    return configPaths.given.length > 0 ? configPaths.given : parts.defaultConfigFiles();
  };
  const openHost = async (): Promise<Host> => parts.openHost(await configFiles());
  const withCache = async (work: (cache: Cache, host: Host) => Promise<void>): Promise<void> => {
    const host = await openHost();
    const cache = await host.openCache();
    try {
      await work(cache, host);
    } finally {
      await cache.close();
    }
  };

  program
    .command('bake')
    .description("make an image's µVM: boot it once, seal it, capture it, prove it by a clone")
    .argument('<image>', 'id or name of an image in Glance')
    .option(...JSON_OPTION)
    .action(async (image: string, options: JsonOption) => {
      await bake(await openHost(), output, image, { json: options.json === true, signal: parts.signal });
    });

  const cache = program.command('cache').description("look at and take care of this host's µVMs");
  cache
    .command('ls')
    .description('list the µVMs, here and in the object store, and the images whose bake failed')
    .option(...JSON_OPTION)
    .action((options: JsonOption) =>
      withCache(async (opened, host) => {
        const failures = await host.bakeFailures();
        const storedKeys = host.storedKeys(parts.signal);
        await listCache(opened, { failures, storedKeys }, output, options.json === true);
      }),
    );
  cache
    .command('show')
    .description('show one µVM: its image, what it fits, where its bytes are')
    .argument('<key>', 'its key, or the first digits of it')
    .option(...JSON_OPTION)
    .action((key: string, options: JsonOption) =>
      withCache((opened) => showCache(opened, output, key, options.json === true)),
    );
  cache
    .command('rm')
    .description('remove µVMs; servers already started from them are not touched')
    .argument('<key...>', 'their keys, or the first digits of them')
    .action((keys: string[]) => withCache((opened) => removeFromCache(opened, output, keys)));
  cache
    .command('gc')
    .description('free what no µVM needs any more; servers may start meanwhile')
    .option(...JSON_OPTION)
    .action((options: JsonOption) =>
      withCache((opened) => collectCache(opened, output, options.json === true)),
    );
  cache
    .command('verify')
    .description('read every page back and check it; exit code 1 when something is damaged')
    .argument('[key...]', 'their keys, or the first digits of them; all when none is given')
    .option(...JSON_OPTION)
    .action((keys: string[], options: JsonOption) =>
      withCache((opened) => verifyCache(opened, output, keys, options.json === true)),
    );

  for (const [name, transfer, description] of [
    ['pull', pullUvms, 'fetch µVMs from the object store; all that fit this host when none is named'],
    ['push', pushUvms, 'send µVMs to the object store; all that it lacks when none is named'],
  ] as const) {
    cache
      .command(name)
      .description(`${description}; what is there already is not sent again`)
      .argument('[image|key...]', 'ids or names of images in Glance, or the first digits of keys')
      .option(...JSON_OPTION)
      .action(async (names: string[], options: JsonOption) => {
        const access = await (await openHost()).openHoard();
        try {
          await transfer(access, output, { names, json: options.json === true, signal: parts.signal });
        } finally {
          await access.close();
        }
      });
  }

  program
    .command('boots')
    .description('how servers started since the service runs; with a server, where its milliseconds went')
    .argument('[server]', 'uuid of a server')
    .option(...JSON_OPTION)
    .action(async (server: string | undefined, options: JsonOption) => {
      await showBoots(await openHost(), output, server, options.json === true);
    });

  program
    .command('doctor')
    .description(
      'say what stands between this host and the work of the service, and the fix; changes nothing. Exit code 1 when a ' +
        'check failed, 2 when the configuration is wrong, 0 else, warnings or not',
    )
    .option(...JSON_OPTION)
    .action(async (options: JsonOption) => {
      const examination = await parts.openDoctor(await configFiles());
      await doctor(examination, output, { json: options.json === true, signal: parts.signal });
    });

  program
    .command('config')
    .description('about the configuration')
    .command('check')
    .description('read the configuration as the service would; names every wrong option')
    .action(async () => {
      const host = await openHost();
      output.line(`The configuration of host '${host.name}' is right: ${host.configFiles.join(', ')}`);
    });
  program
    .command('config-docs')
    .description('print the reference of all options, as in docs/configuration.md')
    .action(() => {
      output.stdout.write(configurationReference());
    });
  program
    .command('config-sample')
    .description('print a prebake.conf with all options of [prebake], commented out')
    .action(() => {
      output.stdout.write(sampleConfiguration());
    });
  program
    .command('metrics-docs')
    .description('print the reference of all metrics, as in docs/metrics.md')
    .action(() => {
      output.stdout.write(metricsReference());
    });
  program
    .command('command-docs')
    .description('print the reference of this command, as in docs/commands.md')
    .action(() => {
      output.stdout.write(commandReference(program));
    });
  return program;
}
