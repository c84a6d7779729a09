"""A real oslo.messaging peer for tests: `oslo_peer.py server URL` answers, `oslo_peer.py client URL` asks.

Talks with the test in lines of JSON on its standard input and output.
"""
import json
import sys
import time

import oslo_messaging
from oslo_config import cfg
from nova import exception

EXMODS = ['nova.exception']


def say(**words):
    print(json.dumps(words), flush=True)


class Endpoint:
    target = oslo_messaging.Target(version='3.2')

    def echo(self, ctxt, value):
        return {'value': value, 'request_id': ctxt.get('request_id')}

    def fail(self, ctxt, host):
        raise exception.ComputeHostNotFound(host=host)

    def slow(self, ctxt, seconds):
        time.sleep(seconds)
        return 'slept'

    def note(self, ctxt, value):
        say(noted=value)


def serve(transport):
    target = oslo_messaging.Target(exchange='nova', topic='peer', server='host')
    server = oslo_messaging.get_rpc_server(transport, target, [Endpoint()], executor='threading')
    server.start()
    say(ready=True)
    sys.stdin.read()
    server.stop()
    server.wait()


def ask(transport):
    say(ready=True)
    for line in sys.stdin:
        request = json.loads(line)
        target = oslo_messaging.Target(exchange='nova', topic=request['topic'], server=request.get('server'),
                                       version=request['version'], fanout=request.get('fanout'))
        client = oslo_messaging.get_rpc_client(transport, target) if hasattr(oslo_messaging, 'get_rpc_client') \
            else oslo_messaging.RPCClient(transport, target)
        context = client.prepare(timeout=request.get('timeout'), call_monitor_timeout=request.get('monitor'))
        try:
            if request['kind'] == 'cast':
                context.cast({'request_id': 'req-peer'}, request['method'], **request['args'])
                say(result=None)
            else:
                say(result=context.call({'request_id': 'req-peer'}, request['method'], **request['args']))
        except Exception as error:  # whatever it is, the test wants to know
            say(error={'class': type(error).__name__, 'module': type(error).__module__,
                       'text': str(error), 'code': getattr(error, 'code', None),
                       'remote': getattr(error, 'exc_type', None),
                       'not_found': isinstance(error, exception.NotFound)})


def main():
    conf = cfg.CONF
    conf([], project='peer', default_config_files=[])
    transport = oslo_messaging.get_rpc_transport(conf, sys.argv[2], allowed_remote_exmods=EXMODS)
    {'server': serve, 'client': ask}[sys.argv[1]](transport)
    transport.cleanup()


main()
