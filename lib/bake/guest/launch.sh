#!/bin/sh
# Brought in by the bake's config drive: puts the gate into memory (never on the disk) and starts it.
umask 077
directory=/run/prebake
mkdir -p "$directory"
echo '@VERSION@' >"$directory/version"
# @FILES@
if command -v python3 >/dev/null 2>&1 && command -v systemd-run >/dev/null 2>&1; then
  # Laid out the same in every bake, so that µVMs have the gate's pages in common. gate.py ends that for what it starts.
  alike=
  if setarch "$(uname -m)" -R true 2>/dev/null; then alike="$(command -v setarch) $(uname -m) -R"; fi
  # shellcheck disable=SC2086 # words
  exec systemd-run --quiet --collect --unit=prebake-gate --property=OOMScoreAdjust=-1000 \
    --property=KillMode=process --property=IgnoreSIGPIPE=no --property=TasksMax=infinity \
    --setenv=PYTHONHASHSEED=0 $alike "$(command -v python3)" -B -u "$directory/gate.py"
fi
setsid sh "$directory/gate.sh" </dev/null >/dev/null 2>&1 &
