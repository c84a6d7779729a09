"""
Which of the files on standard input, as JSON, a profile of AppArmor does not allow: by AppArmor's own library, which needs
no kernel. Usage: apparmor_uncovered.py LIBRARY PROFILES-DIRECTORY PROFILE
"""
import json
import sys

library, directory, path = sys.argv[1:]
sys.path.insert(0, library)
import apparmor.aa as aa  # noqa: E402

# What logprof.conf would say; it belongs to the interactive programs.
aa.cfg = {'required_hats': {}, 'settings': {}}
aa.profile_dir = directory
aa.read_profile(path, True)
(name,) = aa.aa
profile = aa.aa[name][name]
for included in profile['inc_ie'].get_all_full_paths(directory):
    aa.load_include(included)


def allowed(file):
    perms = aa.get_file_perms(profile, file['path'], False, False)
    return perms['allow']['all'] | perms['allow']['owner']


files = json.load(sys.stdin)
print(json.dumps(['%s %s' % (f['path'], f['access']) for f in files if not set(f['access']) <= allowed(f)]))
