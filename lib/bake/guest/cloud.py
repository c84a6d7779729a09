"""
The image's own cloud-init: what it says about the image, and its run in a clone after the gate has done what is urgent.

It finds the server's data where it would have found it in a first boot, runs every stage once, and ends `done`.
"""
import base64
import gc
import glob
import importlib
import json
import os
import random
import shutil
import sys
import time
import traceback

import network
import shortcuts
from system import Steps, names_in, put, read, run, write_to

RUNTIME_CONFIG = '/run/cloud-init/cloud.cfg'
RESULT = '/run/cloud-init/result.json'
SEED = '/run/prebake-seed/config_drive'
# Where cloud-init looks for a seed; in a clone it leads into memory, so that no user data stays on the disk.
SEED_LINK = '/var/lib/cloud/seed/config_drive'
SUDO_RULES = '/etc/sudoers.d/90-cloud-init-users'
POSTPONED = 'postponed'
STAGES = (
    ('init', '--local'),
    ('init',),
    ('modules', '--mode=config'),
    ('modules', '--mode=final'),
)

# What import_quietly() did not find.
missing = []


def configuration_files():
    return ['/etc/cloud/cloud.cfg'] + sorted(glob.glob('/etc/cloud/cloud.cfg.d/*.cfg'))


def default_user():
    """Name of the user whom cloud-init gives the keys to, or None."""
    name = None
    for settings in map(load_yaml, configuration_files()):
        user = ((settings.get('system_info') or {}).get('default_user') or {}) if isinstance(settings, dict) else {}
        name = user.get('name', name)
    return name


def load_yaml(path):
    try:
        import yaml
        return yaml.safe_load(read(path)) or {}
    except Exception:
        return {}


def preload():
    """
    Has cloud-init's modules in memory: under emulation, starting its program once for each stage costs as much as what
    it does. Where its insides look different, its program is started after all. Before anything else of the guest is
    looked at, so that they lie at the same addresses in every bake.
    """
    for name in ('cloudinit.cmd.main', 'cloudinit.sources.DataSourceConfigDrive', 'cloudinit.net.netplan', 'jinja2'):
        import_quietly(name)
    package = import_quietly('cloudinit')
    if package is None:
        return
    root = os.path.dirname(package.__file__)
    for folder in ('config', 'handlers', 'distros'):
        for file in names_in(root + '/' + folder):
            name, suffix = os.path.splitext(file)
            if suffix != '.py' or folder == 'config' and not name.startswith('cc_'):
                continue
            if folder != 'distros' or distribution(name):
                import_quietly('cloudinit.%s.%s' % (folder, name))


def preload_rest():
    """What could not be found by the names of files alone, and answers that a booted guest has."""
    if 'cloudinit' not in sys.modules:
        preload()
    for name in missing[:]:
        import_quietly(name)
    if 'cloudinit' in sys.modules:
        shortcuts.prepare()


def import_quietly(name):
    try:
        return importlib.import_module(name)
    except Exception:
        missing.append(name)
        return None


def distribution(name):
    fields = dict(line.split('=', 1) for line in read('/etc/os-release').splitlines() if '=' in line)
    return name in (fields.get('ID', '') + ' ' + fields.get('ID_LIKE', '')).replace('"', '').split()


def finish(newcomer, steps):
    """What is left for the image's own cloud-init."""
    steps.run('seed', put_seed, newcomer.request['seed'])
    found_by_boot = read(RUNTIME_CONFIG)
    steps.run('settings', put_settings, newcomer)
    newcomer.postponed = steps.run('cloud-init', run_stages, steps)
    put(RUNTIME_CONFIG, found_by_boot + '\n')
    steps.run('leftovers', remove_leftovers)


def follow(sealed, newcomer):
    """What nobody waits for. Nothing of it keeps the rest from being done."""
    quietly(network.hand_over, newcomer.request['interfaces'])
    quietly(sealed.server.add_late_key, newcomer.hostname)
    quietly(sealed.server.take_new_keys)
    for name in newcomer.postponed:
        run('cloud-init', 'single', '--name', name, '--frequency', 'always')
    if sealed.timers:
        quietly(start_timers, sealed.timers)


def start_timers(timers):
    """
    As after a first boot: what is due counts from now. systemd counts from when a timer last ran out, which it keeps in a
    stamp; without one, from when the timer was last started, and that was in the bake, weeks ago. Timers start without
    stamps, too, as on a full disk: one that is due too early is better than none.
    """
    passing = []
    try:
        put_stamps(timers, passing)
    finally:
        run('systemctl', 'start', *timers)
        for name in passing:
            shutil.rmtree(drop_in_of(name), ignore_errors=True)
            quietly(os.unlink, stamp_of(name))


def put_stamps(timers, passing):
    """`passing` gets the names of those that keep no stamp, and read one only if told to."""
    shown = run('systemctl', 'show', '-p', 'Id', '-p', 'Persistent', '-p', 'TimersCalendar', *timers)[1]
    units = [dict(line.partition('=')[::2] for line in block.splitlines()) for block in shown.split('\n\n')]
    os.makedirs(os.path.dirname(stamp_of('')), exist_ok=True)
    for unit in units:
        if unit.get('TimersCalendar'):
            put(stamp_of(unit['Id']), '')
            if unit.get('Persistent') != 'yes':
                passing.append(unit['Id'])
    for name in passing:
        os.makedirs(drop_in_of(name), exist_ok=True)
        put(drop_in_of(name) + '/prebake.conf', '[Timer]\nPersistent=true\n')
    if passing:
        run('systemctl', 'daemon-reload')


def stamp_of(timer):
    return '/var/lib/systemd/timers/stamp-' + timer


def drop_in_of(unit):
    return '/run/systemd/system/%s.d' % unit


def quietly(work, *args):
    try:
        work(*args)
    except Exception:
        traceback.print_exc()  # into the guest's journal


def wake_daemons(services):
    """Those that knew the µVM's name, machine-id or network learn the clone's; the image's own start for the first time."""
    if os.path.exists('/run/systemd/netif/state'):  # asking a networkd that does not run would start it
        run('networkctl', 'reload')
    run('systemctl', 'try-restart', 'systemd-journald.service')
    if services:
        run('systemctl', 'start', '--no-block', *services)
    for path in glob.glob('/var/log/journal/*') + glob.glob('/run/log/journal/*'):
        if os.path.basename(path) != read('/etc/machine-id'):
            shutil.rmtree(path, ignore_errors=True)


def put_seed(files):
    """Without a config drive the same files come from the host's message."""
    if files is None:
        return
    for path, content in files.items():
        target = os.path.normpath(os.path.join(SEED, path))
        if not target.startswith(SEED + '/'):
            raise ValueError('a file outside the seed')
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
        put(target, base64.b64decode(content), 0o600)
    os.makedirs(os.path.dirname(SEED_LINK), exist_ok=True)
    if not os.path.lexists(SEED_LINK):
        os.symlink(SEED, SEED_LINK)


def remove_leftovers():
    """The seed has been read, and the sudo rule that the bake's run wrote has been written a second time."""
    if os.path.islink(SEED_LINK):
        os.unlink(SEED_LINK)
    shutil.rmtree(os.path.dirname(SEED), ignore_errors=True)
    rules = read(SUDO_RULES)
    if rules:
        put(SUDO_RULES, '\n\n'.join(dict.fromkeys(rules.split('\n\n'))) + '\n', 0o440)


def put_settings(newcomer):
    """For this boot alone: what the gate has done is not done again. The user's own cloud-config still overrules it."""
    settings = load_yaml(RUNTIME_CONFIG)
    settings['datasource_list'] = ['ConfigDrive', 'None']
    settings['ssh_deletekeys'] = False
    # The missing one, which takes long, follows when cloud-init is done.
    settings['ssh_genkeytypes'] = []
    if newcomer.disk_grown:
        settings['growpart'] = {'mode': 'off'}
        settings['resize_rootfs'] = False
    put(RUNTIME_CONFIG, json.dumps(settings) + '\n')


def run_stages(steps):
    """
    All stages in one process that has what they need in memory, as newer versions of cloud-init do it themselves. A stage
    that fails says so in `cloud-init status`, as it would after any boot; one that never got there is left to its program.
    Returns the names of modules that are to be run when there is time.
    """
    postponed = []
    began = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            become_cloud_init(writer)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as finished:
        for line in finished:
            what, name = line.split()
            if what == POSTPONED:
                postponed.append(name)
            else:
                steps.ms['cloud-init ' + name] = round((time.monotonic() - began) * 1000)
    os.waitpid(child, 0)
    if not os.path.exists(RESULT):
        for stage in STAGES:
            run('cloud-init', *stage, timeout_s=None)
    return postponed


def become_cloud_init(finished):
    # What the user starts must not be spared by the kernel when memory runs out, as the gate is.
    write_to('/proc/self/oom_score_adj', b'0')
    os.setsid()
    random.seed()  # the parent's generator is the same in all clones
    gc.enable()
    program = import_quietly('cloudinit.cmd.main')
    if program is None:
        return
    shortcuts.take(lambda name: tell(finished, POSTPONED, name))
    nothing = os.open('/dev/null', os.O_RDWR)
    for stage in STAGES:
        # Each stage leads its output into its log, which must not be the log of the one before.
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        try:
            program.main(['/usr/bin/cloud-init'] + list(stage))
        except SystemExit:
            pass
        tell(finished, 'finished', stage[-1].replace('--', ''))
    os._exit(0)


def tell(pipe, what, name):
    os.write(pipe, ('%s %s\n' % (what, name)).encode())
