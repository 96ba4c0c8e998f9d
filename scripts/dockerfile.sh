#!/usr/bin/env bash
# deploy/Dockerfile installs exactly the libraries that the binary is linked with, beside those of every Debian, and leaves the
# data directory empty.
#   scripts/dockerfile.sh BINARY
set -euo pipefail
[ $# = 1 ] && [ -x "$1" ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
linked=$(ldd "$1" | awk '/=> \//{print $3}' | xargs -n1 readlink -f | while read -r library; do
  { dpkg -S "$library" || dpkg -S "${library#/usr}"; } 2>/dev/null | head -1 | cut -d: -f1
done | sort -u | grep -vxE 'libc6|libgcc-s1|libstdc\+\+6')
cd "$(dirname "$0")/.."
installed=$(sed -n '/^FROM .*slim$/,$p' deploy/Dockerfile | sed -n '/apt-get install/,/&&.*rm -rf/p' | grep -oE '\blib[a-z0-9.+-]+' | grep -v '^lib/apt' | sort -u)
if grep -q -e '--create-home' <(grep -v -e '--no-create-home' deploy/Dockerfile); then
  echo "deploy/Dockerfile: a home that useradd makes has dot files in it, and the server takes only an empty directory" >&2
  exit 1
fi
[ "$linked" = "$installed" ] && exit
echo "the binary is linked with: ${linked//$'\n'/ }; deploy/Dockerfile installs: ${installed//$'\n'/ }" >&2
exit 1
