/**
 * What AppArmor would refuse a guest's QEMU, on a kernel without it: the rules that Debian's libvirt makes for the guest
 * (virt-aa-helper), with prebake's, read by AppArmor's own compiler and library.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, cp, mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { z } from 'zod';

const run = promisify(execFile);
const ROOT = join(__dirname, '../../..');
const TOOLS = join(ROOT, 'dist/tools/apparmor');
const OWN_RULES = join(ROOT, 'docs/install/prebake.apparmor');
const UNCOVERED = join(__dirname, 'apparmor_uncovered.py');
/** Taken apart only: installed, they would confine this machine's programs where the kernel can. */
const PACKAGES = ['apparmor', 'python3-apparmor', 'python3-libapparmor', 'libapparmor1'];
const VIRT_AA_HELPER = '/usr/lib/libvirt/virt-aa-helper';
const CACHE_DIRECTORY = '/var/lib/nova/prebake';
const O_ACCMODE = 3;

/** A file that a program has open, and how (`r`, `w`, `rw`). */
export interface OpenFile {
  readonly path: string;
  readonly access: string;
}

/** The files a guest's QEMU has open now; without devices, sockets and other things that have no path. */
export async function openFiles(uuid: string): Promise<readonly OpenFile[]> {
  const { stdout } = await run('pgrep', ['--full', '--', `-uuid ${uuid}`]);
  const process = join('/proc', stdout.trim());
  const found: OpenFile[] = [];
  for (const fd of await readdir(join(process, 'fd'))) {
    const path = await readlink(join(process, 'fd', fd)).catch(() => '');
    if (!path.startsWith('/') || path.startsWith('/dev/') || path.startsWith('/memfd:')) continue;
    const info = await readFile(join(process, 'fdinfo', fd), 'utf8').catch(() => '');
    const flags = Number.parseInt(/^flags:\s+(\d+)/m.exec(info)?.[1] ?? '0', 8);
    found.push({
      path: path.replace(/ \(deleted\)$/, ''),
      access: ['r', 'w', 'rw'][flags & O_ACCMODE] ?? 'rw',
    });
  }
  return found;
}

export interface Guest {
  readonly uuid: string;
  /** As libvirt has it. */
  readonly xml: string;
  readonly files: readonly OpenFile[];
}

/**
 * @param cacheDirectory of the guest's host, which the rules are given
 * @param ownRules false to leave prebake's out
 * @returns the files that the rules for the guest do not allow it as it has them open; rejects when the rules are none
 */
export async function uncoveredFiles(
  { uuid, xml, files }: Guest,
  cacheDirectory: string,
  ownRules = true,
): Promise<readonly string[]> {
  await fetchTools();
  const directory = await mkdtemp(join(tmpdir(), 'prebake-apparmor-'));
  try {
    await cp(join(TOOLS, 'etc/apparmor.d'), directory, { recursive: true });
    for (const name of ['abstractions', 'libvirt', 'local']) {
      await cp(join('/etc/apparmor.d', name), join(directory, name), { recursive: true });
    }
    const rules = await readFile(OWN_RULES, 'utf8');
    await writeFile(
      join(directory, 'abstractions/prebake'),
      rules.replaceAll(`${CACHE_DIRECTORY}/`, `${cacheDirectory}/`),
    );
    await mkdir(join(directory, 'local/abstractions'), { recursive: true });
    await writeFile(
      join(directory, 'local/abstractions/libvirt-qemu'),
      ownRules ? 'include <abstractions/prebake>\n' : '',
    );
    const profile = join(directory, 'libvirt', `libvirt-${uuid}`);
    const template = await readFile(join(directory, 'libvirt/TEMPLATE.qemu'), 'utf8');
    await writeFile(
      profile,
      template
        .replace('LIBVIRT_TEMPLATE', `libvirt-${uuid}`)
        .replace(/}\s*$/, '')
        .concat(await guestRules(uuid, xml), '}\n'),
    );
    const features = join(TOOLS, 'usr/share/apparmor-features/features');
    await run(
      join(TOOLS, 'sbin/apparmor_parser'),
      [
        ...['--config-file', '/dev/null', '--skip-kernel-load', '--skip-cache', '--skip-read-cache'],
        ...['--base', directory, '--policy-features', features, '--kernel-features', features, profile],
      ],
      { timeout: 60_000 },
    );
    const { stdout } = await withInput(
      '/usr/bin/python3',
      [UNCOVERED, join(TOOLS, 'usr/lib/python3/dist-packages'), directory, profile],
      JSON.stringify(files),
      { LD_LIBRARY_PATH: join(TOOLS, 'usr/lib/x86_64-linux-gnu') },
    );
    return z.array(z.string()).parse(JSON.parse(stdout));
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** What libvirt adds to the template for one guest. */
async function guestRules(uuid: string, xml: string): Promise<string> {
  // Its rules are on standard error, as messages.
  const { stderr } = await withInput(
    VIRT_AA_HELPER,
    ['--dryrun', '--create', '--uuid', `libvirt-${uuid}`],
    xml,
    {},
  );
  const rules = stderr.split('\n').filter((line) => /^ {2}(?:deny )?"/.test(line));
  if (rules.length === 0) throw new Error(`virt-aa-helper has no rules: ${stderr}`);
  return `${rules.join('\n')}\n`;
}

async function fetchTools(): Promise<void> {
  const done = join(TOOLS, 'complete');
  if (
    await access(done).then(
      () => true,
      () => false,
    )
  )
    return;
  await rm(TOOLS, { recursive: true, force: true });
  await mkdir(TOOLS, { recursive: true });
  await run('apt-get', ['-qq', 'download', ...PACKAGES], { cwd: TOOLS, timeout: 120_000 });
  for (const name of await readdir(TOOLS)) {
    if (name.endsWith('.deb')) await run('dpkg-deb', ['--extract', name, '.'], { cwd: TOOLS });
  }
  await writeFile(done, '');
}

async function withInput(
  program: string,
  args: readonly string[],
  input: string,
  env: Readonly<Record<string, string>>,
): Promise<{ stdout: string; stderr: string }> {
  const child = spawn(program, args, { timeout: 60_000, env: { ...process.env, ...env } });
  const ended = once(child, 'exit');
  child.stdin.end(input);
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [code] = z
    .tuple([z.number().nullable()])
    .rest(z.unknown())
    .parse(await ended);
  if (code !== 0) throw new Error(`${program} ended with ${code ?? 'a signal'}: ${stdout}${stderr}`);
  return { stdout, stderr };
}
