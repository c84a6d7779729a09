"""
Has the gate laid out alike in every bake, so that µVMs of a release have its pages in common: 35 MiB, most of them
cloud-init's modules.

What makes bakes differ is the order in which directories are listed: it is another on every file system, the interpreter
lists each directory that it finds modules in, and what is allocated and freed in another order leaves everything after
that at other addresses. So modules are found here by asking for their files by name.

Another is the cache of the dynamic loader, which lies in memory beside the libraries: it is as long as the image has
libraries. So libraries are found by name, too.
"""
import os
import sys

import _frozen_importlib_external as machinery

# Beside this file, which is in memory.
STARTUP = os.path.dirname(os.path.abspath(__file__)) + '/startup'
# Of the service that is started, and of other lengths in other bakes.
OF_THE_SERVICE = ('INVOCATION_ID', 'JOURNAL_STREAM', 'SYSTEMD_EXEC_PID')


class Finder:
    """Finds what sys.path has as files: not what has no file, such as a package that is a directory only."""

    @staticmethod
    def find_spec(name, path=None, _target=None):
        for folder in sys.path if path is None else path:
            place = folder + '/' + name.rpartition('.')[2]
            for file, loader, folders in candidates(place):
                if os.path.isfile(file):
                    return machinery.spec_from_file_location(
                        name, file, loader=loader(name, file), submodule_search_locations=folders
                    )
        return None


def candidates(place):
    yield place + '/__init__.py', machinery.SourceFileLoader, [place]
    for suffix in machinery.EXTENSION_SUFFIXES:
        yield place + suffix, machinery.ExtensionFileLoader, None
    yield place + '.py', machinery.SourceFileLoader, None


def start_over():
    """
    The interpreter again, without what its usual start lists: directories of packages (`site`), and its own library, of
    which it gets the few modules that it starts with in a directory in memory, whose order is that of its making.
    """
    if not sys.flags.no_site:
        collect_startup()
        environment = {name: value for name, value in os.environ.items() if name not in OF_THE_SERVICE}
        environment['PYTHONPATH'] = STARTUP
        environment['LD_LIBRARY_PATH'] = ':'.join(folders_of_libraries())
        os.execve(sys.executable, [sys.executable, '-S', '-B', '-u'] + sys.argv, environment)
    for name in ('PYTHONPATH', 'LD_LIBRARY_PATH'):
        os.environ.pop(name, None)
    sys.path.remove(STARTUP)
    # Each of them has its own idea of where its parts are.
    for module in list(sys.modules.values()):
        places = getattr(module, '__path__', None)
        if isinstance(places, list):
            places[:] = [place.replace(STARTUP, library(), 1) for place in places]


def folders_of_libraries():
    """Where the distribution has libraries: where the loader found those of the interpreter, with and without /usr."""
    with open('/proc/self/maps') as maps:
        paths = [line.split()[-1] for line in maps if '.so' in line]
    libraries = [path for path in paths if os.path.basename(path).startswith('lib')]
    folders = {os.path.dirname(path).replace('/usr/', '/', 1) for path in libraries}
    return [prefix + folder for folder in sorted(folders) for prefix in ('', '/usr')]


def library():
    return os.path.dirname(os.path.realpath(STARTUP + '/os.py'))


def collect_startup():
    """Links to what the interpreter has loaded by now, and to its compiled form."""
    home = os.path.dirname(os.__file__)
    files = sorted(str(getattr(module, '__file__', None)) for module in list(sys.modules.values()))
    for file in files:
        if file.startswith(home + '/') and file.endswith('.py') and 'site-packages' not in file:
            link = STARTUP + file[len(home):]
            folder = os.path.dirname(link)
            if not os.path.isdir(folder):
                os.makedirs(folder)
                os.symlink(os.path.dirname(file) + '/__pycache__', folder + '/__pycache__')
            if not os.path.exists(link):
                os.symlink(file, link)


def begin():
    """From here on modules are found without listing. Returns what end() takes."""
    usual = sys.meta_path[:]
    sys.meta_path[:] = [finder for finder in usual if finder is not machinery.PathFinder] + [Finder]
    import site
    for folder in site.getsitepackages():
        if folder not in sys.path and os.path.isdir(folder):
            sys.path.append(folder)
    return usual


def end(usual):
    """Modules are found in every way again, and `site` does what it usually does first."""
    sys.meta_path[:] = usual
    import site
    site.main()

