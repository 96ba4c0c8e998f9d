#!/usr/bin/env bash
# Installs a built package in a fresh Debian root, starts the server as its own user, commits and reads, then purges it.
#   scripts/try-package.sh DEB [ROOT]     ROOT: a minbase bookworm made before; it is copied, and debootstrap not asked
# Needs root and debootstrap. Prints one line a step; exit 1 at the first that fails.
set -euo pipefail
{ [ $# = 1 ] || { [ $# = 2 ] && [ -d "$2/etc/apt" ]; }; } && [ -f "$1" ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "try-package: needs root (a fresh root directory is made and entered)" >&2; exit 2; }
deb=$(readlink -f "$1")
root=$(mktemp -d -p "${TMPDIR:-/var/tmp}" millrace-root.XXXXXX)
server=
chmod 755 "$root"  # mktemp gives it to root alone, and the server runs as somebody else
finish() {
  [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
  umount "$root/proc" 2>/dev/null || true
  rm -rf "$root" "$root.log"
}
trap finish EXIT
quietly() { "$@" >"$root.log" 2>&1 || { tail -n 20 "$root.log" >&2; echo "try-package: failed: $*" >&2; exit 1; }; }
step() { printf 'try-package: %s\n' "$*" >&2; }

if [ $# = 2 ]; then
  step "a copy of $2 in $root"
  cp -a "$2/." "$root/"
else
  command -v debootstrap >/dev/null || quietly apt-get install -y -qq --no-install-recommends debootstrap
  step "a fresh bookworm in $root"
  source=$(sed -nE 's/^(deb|URIs:) *(\[[^]]*\])? *([a-z]+:[^ ]*).*/\3/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
    /etc/apt/sources.list.d/*.sources 2>/dev/null | grep debian | grep -v security | head -n 1 || true)
  quietly debootstrap --variant=minbase bookworm "$root" "${source:-http://deb.debian.org/debian}"
fi
rm -f "$root/etc/apt/sources.list"  # this machine's sources, whatever debootstrap wrote
cp -a /etc/apt/. "$root/etc/apt/"
mount -t proc proc "$root/proc"
inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@"; }
quietly inside apt-get update -qq
cp "$deb" "$root/tmp/millrace.deb"
step "installing"
apt_quiet="-y -qq -o Dpkg::Use-Pty=0"
quietly inside apt-get install $apt_quiet --no-install-recommends /tmp/millrace.deb
inside millrace version
for file in /lib/systemd/system/millrace.service /etc/millrace/millrace.toml /usr/share/man/man1/millrace{,-serve,-append,-read,-stat,-verify,-doctor}.1.gz \
  /usr/share/bash-completion/completions/millrace /usr/share/zsh/vendor-completions/_millrace \
  /usr/share/fish/vendor_completions.d/millrace.fish; do
  [ -s "$root$file" ] || { echo "try-package: the package lacks $file" >&2; exit 1; }
done
zgrep -q 'kernel KERNEL' "$root/usr/share/man/man1/millrace-serve.1.gz" || { echo "try-package: millrace-serve(1) lacks --kernel" >&2; exit 1; }
[ "$(stat -c %a "$root/var/lib/millrace")" = 750 ]
inside bash -c '. /usr/share/bash-completion/completions/millrace; COMP_WORDS=(millrace ser) COMP_CWORD=1; _millrace; [ "${COMPREPLY[*]}" = serve ]'
port=$((20000 + RANDOM % 20000))
start() {
  chroot --userspec=millrace:millrace "$root" /usr/bin/millrace serve --config /etc/millrace/millrace.toml --listen 127.0.0.1:$port 2>"$root/tmp/server.log" &
  server=$!
  for _ in $(seq 300); do
    inside millrace stat --server 127.0.0.1:$port >/dev/null 2>&1 && return
    kill -0 $server 2>/dev/null || { cat "$root/tmp/server.log" >&2; exit 1; }
    sleep 0.1
  done
  echo "try-package: the server does not answer" >&2
  exit 1
}
expect_three() { [ "$(inside millrace read --server 127.0.0.1:$port --stream try)" = "$(printf 'one\ntwo\nthree')" ]; }
step "starting as user millrace with the packaged configuration, on a port of its own"
start
step "committing, killing, reading back"
printf 'one\ntwo\nthree\n' | inside millrace append --quiet --server 127.0.0.1:$port --stream try
kill -9 $server
wait $server 2>/dev/null || true
start
expect_three
kill -TERM $server
wait $server
server=
inside millrace verify --data /var/lib/millrace
step "purging"
inside apt-get purge $apt_quiet millrace >/dev/null
[ ! -e "$root/usr/bin/millrace" ] && [ ! -e "$root/etc/millrace" ]
[ -d "$root/var/lib/millrace/shard-00" ] && step "its records were kept in /var/lib/millrace"
step "ok"
