#!/usr/bin/env bash
# Installs a built package in a fresh Debian root, starts the server as its own user, commits and reads, then purges it.
#   scripts/try-package.sh DEB
# Needs root and debootstrap. Prints one line a step; exit 1 at the first that fails.
set -euo pipefail
[ $# = 1 ] && [ -f "$1" ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "try-package: needs root (a fresh root directory is made and entered)" >&2; exit 2; }
deb=$(readlink -f "$1")
root=$(mktemp -d -p "${TMPDIR:-/var/tmp}" millrace-root.XXXXXX)
server=
finish() {
  [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
  umount "$root/proc" 2>/dev/null || true
  rm -rf "$root"
}
trap finish EXIT
step() { printf 'try-package: %s\n' "$*" >&2; }

command -v debootstrap >/dev/null || apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
step "a fresh bookworm in $root"
source=$(grep -rhoE '^(deb|URIs:) *(\[[^]]*\])? *[^ ]+' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -1 | grep -oE '[a-z]+://[^ ]+|file:[^ ]+')
debootstrap --variant=minbase bookworm "$root" "$source" >/dev/null
cp -a /etc/apt/. "$root/etc/apt/"
mount -t proc proc "$root/proc"
inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@"; }
inside apt-get update -qq >/dev/null
cp "$deb" "$root/tmp/millrace.deb"
step "installing"
inside apt-get install -y -qq --no-install-recommends /tmp/millrace.deb >/dev/null 2>&1
inside millrace version
step "starting as user millrace with the packaged configuration, on a port of its own"
port=$((20000 + RANDOM % 20000))
chroot --userspec=millrace:millrace "$root" /usr/bin/millrace serve --config /etc/millrace/millrace.toml --listen 127.0.0.1:$port 2>"$root/tmp/server.log" &
server=$!
for _ in $(seq 100); do
  inside millrace stat --server 127.0.0.1:$port >/dev/null 2>&1 && break
  kill -0 $server 2>/dev/null || { cat "$root/tmp/server.log" >&2; exit 1; }
  sleep 0.1
done
step "committing and reading back"
printf 'one\ntwo\nthree\n' | inside millrace append --server 127.0.0.1:$port --stream try
[ "$(inside millrace read --server 127.0.0.1:$port --stream try)" = "$(printf 'one\ntwo\nthree')" ]
kill -TERM $server
wait $server
server=
step "purging"
inside apt-get purge -y -qq millrace >/dev/null
[ ! -e "$root/usr/bin/millrace" ] && [ ! -e "$root/etc/millrace" ]
[ -d "$root/var/lib/millrace/shard-00" ] && step "its records were kept in /var/lib/millrace"
step "ok"
