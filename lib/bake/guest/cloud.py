"""
The image's own cloud-init: what it says about the image, and its run in a clone after the gate has done what is urgent.

It finds the server's data where it would have found it in a first boot, runs every stage once, and ends `done`.
"""
import base64
import glob
import json
import os

from system import Steps, put, read, run

RUNTIME_CONFIG = '/run/cloud-init/cloud.cfg'
SEED = '/run/prebake-seed/config_drive'
# Where cloud-init looks for a seed; in a clone it leads into memory, so that no user data stays on the disk.
SEED_LINK = '/var/lib/cloud/seed/config_drive'
STAGES = (
    ('init', '--local'),
    ('init',),
    ('modules', '--mode=config'),
    ('modules', '--mode=final'),
)


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
    """Nothing of this is needed before `ready`; its pages come from the disk then."""


def finish(sealed, newcomer):
    """Everything beyond the identity. Returns the milliseconds of each step."""
    steps = Steps()
    steps.run('daemons', wake_daemons)
    steps.run('seed', put_seed, newcomer.request['seed'])
    steps.run('settings', put_settings, newcomer)
    for stage in STAGES:
        steps.run('cloud-init ' + stage[-1].replace('--', ''), run_stage, stage)
    steps.run('sshd', sealed.server.take_new_keys)  # the RSA key came late
    if sealed.timers:
        steps.run('timers', run, 'systemctl', 'start', '--no-block', *sealed.timers)
    return steps.ms


def wake_daemons():
    """Those that knew the µVM's name, machine-id or network learn the clone's."""
    run('networkctl', 'reload')
    run('systemctl', 'try-restart', 'systemd-journald.service')


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


def put_settings(newcomer):
    """For this boot alone: what the gate has done is not done again. The user's own cloud-config still overrules it."""
    settings = load_yaml(RUNTIME_CONFIG)
    settings['datasource_list'] = ['ConfigDrive', 'None']
    settings['ssh_deletekeys'] = False
    settings['ssh_genkeytypes'] = ['rsa']
    if newcomer.disk_grown:
        settings['growpart'] = {'mode': 'off'}
        settings['resize_rootfs'] = False
    put(RUNTIME_CONFIG, json.dumps(settings) + '\n')


def run_stage(stage):
    """A stage that fails says so in `cloud-init status`, as it would after any boot."""
    run('cloud-init', *stage, timeout_s=3600)
