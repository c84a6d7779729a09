#!/bin/sh
# Brought in by the bake's config drive: puts the gate into memory (never on the disk) and starts it.
umask 077
directory=/run/prebake
mkdir -p "$directory"
echo '@VERSION@' >"$directory/version"
# @FILES@
if command -v python3 >/dev/null 2>&1 && command -v systemd-run >/dev/null 2>&1; then
  exec systemd-run --quiet --collect --unit=prebake-gate --property=OOMScoreAdjust=-1000 \
    --property=KillMode=process --property=IgnoreSIGPIPE=no --property=TasksMax=infinity \
    "$(command -v python3)" -B -u "$directory/gate.py"
fi
setsid sh "$directory/gate.sh" </dev/null >/dev/null 2>&1 &
