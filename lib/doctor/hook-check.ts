/**
 * Whether libvirt will call prebake's hook: it is there, it is the one that belongs to this version, and libvirtd was
 * started after it came. libvirtd looks for hooks only once, when it starts.
 */
import { type Check, fail, ok, warn } from './check';
import type { Machine } from './machine';

export const HOOKS_DIRECTORY = '/etc/libvirt/hooks';
const HOOK = `${HOOKS_DIRECTORY}/qemu.d/prebake`;
/** libvirt's daemon for QEMU: the one for everything, or the one of its own. */
const DAEMONS = ['libvirtd', 'virtqemud'];
/** /proc counts the start of a process from a boot time in whole seconds. */
const CLOCK_SLACK_MS = 2000;

/** @param ownHookPath the hook as it comes with this version */
export function hookCheck(machine: Machine, ownHookPath: string): Check {
  const restart = 'systemctl restart libvirtd (or virtqemud; guests go on running)';
  const install = `install -D -m 755 ${ownHookPath} ${HOOK}, then ${restart}`;
  return {
    name: 'libvirt-hook',
    fix: install,
    run: async () => {
      const hook = await machine.program(HOOK);
      if (hook === null) return fail(`${HOOK} is not there: no µVM can be baked or restored`, install);
      if (!hook.executable) return fail(`${HOOK} is not executable`, install);
      if ((await machine.readText(HOOK)) !== (await machine.readText(ownHookPath))) {
        return warn(`${HOOK} is not the one of this version`, install);
      }
      const daemons = await machine.processes(DAEMONS);
      if (daemons.length === 0)
        return ok(`${HOOK}; no libvirtd runs on this machine that could be looked at`);
      const startedAtMs = Math.max(...daemons.map((daemon) => daemon.startedAtMs));
      if ((await firstHookMs(machine)) > startedAtMs + CLOCK_SLACK_MS) {
        return fail(`libvirtd was started before ${HOOK} came and does not know it`, restart);
      }
      return ok(`${HOOK}, known to libvirtd`);
    },
  };
}

/** When the oldest hook for QEMU came: with that one there, libvirtd calls whatever else is in the directory. */
async function firstHookMs(machine: Machine): Promise<number> {
  const names = await machine.list(`${HOOKS_DIRECTORY}/qemu.d`);
  const paths = [`${HOOKS_DIRECTORY}/qemu`, ...names.map((name) => `${HOOKS_DIRECTORY}/qemu.d/${name}`)];
  const hooks = await Promise.all(paths.map((path) => machine.program(path)));
  return Math.min(...hooks.map((hook) => (hook?.executable === true ? hook.changedAtMs : Infinity)));
}
