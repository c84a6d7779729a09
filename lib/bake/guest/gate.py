"""
The gate: a program kept in the memory of a µVM, never on its disk. It seals the guest when it is baked, waits for the
host through every restore, and gives each clone its own identity and resources.

Talks JSON lines on the virtio-serial port; the host is the only other party and the only one it believes.
"""
import alike

# Before any other module is looked for.
alike.start_over()
usual_finders = alike.begin()
import gc
import glob
import json
import os
import shutil
import threading
import time
import traceback

import answers
import cloud
import identity
import seal
import sshd
from system import StepFailed, Steps, randomise_children, read, run, wait_until

DIRECTORY = '/run/prebake'
PORT_NAME = 'org.prebake.gate.0'
# In which a slow processor has agreed on keys with a client; who stays for longer is at work, and minds nothing.
HANDSHAKE_S = 2


def find_port():
    """udev's link to the port may be late or missing; the kernel's own name of it is not."""
    for path in glob.glob('/sys/class/virtio-ports/*/name'):
        if read(path) == PORT_NAME:
            return '/dev/' + path.split('/')[-2]
    return None


class Port:
    """The channel to the host. Sending is safe from any thread."""

    def __init__(self, path):
        self.descriptor = os.open(path, os.O_RDWR)
        self.lock = threading.Lock()

    def lines(self):
        partial = b''
        while True:
            data = os.read(self.descriptor, 65536)
            if not data:
                partial = b''
                time.sleep(0.05)  # nobody on the host's side; the port has no event for somebody coming
                continue
            partial += data
            while b'\n' in partial:
                line, partial = partial.split(b'\n', 1)
                if line.strip():
                    yield line

    def send(self, message):
        data = (json.dumps(message) + '\n').encode()
        with self.lock:
            while data:
                data = data[os.write(self.descriptor, data):]


class Gate:
    def __init__(self, port, version):
        self.port = port
        self.version = version
        self.sealed = seal.Sealed()
        self.left = threading.Event()
        self.busy = None
        # Held while the daemons learn who they are now: nobody is to see what they leave of the µVM until then.
        self.waking = threading.Lock()
        self.instance_id = ''
        self.resumed_at_s = float('inf')

    def answer(self, request, event, **fields):
        self.port.send(dict(fields, event=event, id=request['id']))

    def serve(self):
        for line in self.port.lines():
            try:
                request = json.loads(line)
                handler = getattr(self, 'on_' + request['op'])
            except (ValueError, KeyError, AttributeError, TypeError):
                continue
            self.guard(request, handler)
            if self.left.is_set():
                return

    def guard(self, request, handler):
        try:
            handler(request)
        except StepFailed as failure:
            self.answer(request, 'error', step=failure.step[:100], reason=failure.reason[-4000:])
        except Exception:
            self.answer(request, 'error', step=str(request.get('op'))[:100], reason=traceback.format_exc()[-4000:])

    def on_hello(self, request):
        uptime = float(read('/proc/uptime').split()[0])
        self.answer(request, 'hello', gate=self.version, kind='python', uptimeS=uptime)

    def on_seal(self, request):
        steps = self.sealed.seal(request.get('spares', '').split())
        self.answer(request, 'sealed', stepsMs=steps)

    def on_ask(self, request):
        user = identity.find_user(self.sealed.default_user) if self.sealed.default_user else None
        with self.waking:
            found = answers.answers(self.instance_id, self.resumed_at_s, user)
        self.answer(request, 'answers', answers=found)

    def on_bye(self, _request):
        if self.busy is not None:
            self.busy.join()
        self.left.set()

    def on_identify(self, request):
        # In its own thread, so that the host can ask in the meantime.
        self.busy = threading.Thread(target=self.guard, args=(request, self.become))
        self.busy.start()

    def become(self, request):
        self.resumed_at_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        newcomer = identity.Newcomer(self.sealed, request)
        self.instance_id = request['instanceId']
        try:
            newcomer.become(
                on_identity=lambda steps: self.answer(request, 'identity', stepsMs=steps),
                on_ready=lambda ready: self.answer(request, 'ready', **ready),
            )
            # Whoever connects now is answered before the daemons all wake up at once. A slow guest needs longer for both.
            time.sleep(min(1, newcomer.steps.elapsed_s() / 3))
            wait_until(lambda: not sshd.has_connections(), HANDSHAKE_S, 0.05)
        except BaseException:
            self.sealed.freezer.thaw()
            raise
        steps = Steps()
        with self.waking:
            self.sealed.freezer.thaw()
            steps.run('daemons', cloud.wake_daemons, self.sealed.services)
        cloud.finish(newcomer, steps)
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        self.answer(request, 'done', stepsMs=steps.ms)
        cloud.follow(self.sealed, newcomer)


def wait_for_boot():
    """The image's own first boot has to be over: cloud-init, and whatever systemd still had to start."""
    wait_until(lambda: os.path.exists('/run/cloud-init/result.json'), float('inf'), 0.2)
    run('systemctl', 'is-system-running', '--wait', timeout_s=180)


def main():
    cloud.preload()
    gc.collect()
    gc.freeze()
    randomise_children()
    alike.end(usual_finders)
    wait_for_boot()
    wait_until(find_port, float('inf'), 0.2)
    Gate(Port(find_port()), read(DIRECTORY + '/version')).serve()


if __name__ == '__main__':
    main()
