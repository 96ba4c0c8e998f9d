#!/usr/bin/env bash
# Every verb and flag that `millrace VERB --help` shows stands in the completions of all three shells.
#   scripts/completions.sh BINARY
set -euo pipefail
[ $# = 1 ] && [ -x "$1" ] || { sed -n '2,3s/^# \{0,1\}//p' "$0" >&2; exit 2; }
binary=$1
cd "$(dirname "$0")/.."
missing=0
lacks() { echo "$1 does not know $2" >&2; missing=1; }
verbs=$("$binary" --help | sed -n '/^Subcommands:/,$s/^  \([a-z]*\) .*/\1/p')
[ -n "$verbs" ] || { echo "no verbs in --help" >&2; exit 1; }
for verb in $verbs; do
  for file in deploy/completions/*; do grep -qw -- "$verb" "$file" || lacks "$file" "$verb"; done
  for flag in $("$binary" "$verb" --help | grep -oE '^ +(-[a-z], ?)?--[a-z-]+' | grep -oE -- '--[a-z-]+' | grep -vx -- --help); do
    grep -E -- "^ +$verb\) flags=" deploy/completions/millrace.bash | grep -q -- "$flag[^a-z-]" || lacks deploy/completions/millrace.bash "$verb $flag"
    sed -nE "/^ +([a-z]+\|)*$verb(\|[a-z]+)*\) /,/;;/p" deploy/completions/_millrace | grep -q -- "'$flag\[" || lacks deploy/completions/_millrace "$verb $flag"
    grep -qE -- "(-l |for flag in .*)${flag#--}( |$)" deploy/completions/millrace.fish || lacks deploy/completions/millrace.fish "$verb $flag"
  done
done
exit $missing
