# The Debian packages Millrace needs, by name, and how they get there. Sourced by check and quickstart.
# What each is for stands in README.md, "Build".

packages_to_build="g++-12 meson ninja-build pkg-config liburing-dev libxxhash-dev libflatbuffers-dev
  flatbuffers-compiler libfmt-dev libspdlog-dev libcli11-dev nlohmann-json3-dev"
packages_to_check="$packages_to_build clang-19 libclang-rt-19-dev llvm-19 clang-format-19 libgtest-dev libbenchmark-dev
  python3 e2fsprogs xfsprogs btrfs-progs mount util-linux binutils debootstrap fish zsh"

missing_packages() {
  local name
  for name in "$@"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q '^install ok installed$' || printf '%s ' "$name"
  done
}

# apt's status lines become a line every few seconds, so that a slow mirror is not taken for a hang.
show_progress() {
  local line said=-5
  while IFS= read -r line; do
    [[ $line =~ ^(dl|pm)status:.*:([0-9]+)[0-9.]*:(.*)$ ]] && [ $((SECONDS - said)) -ge 5 ] || continue
    said=$SECONDS
    printf '%3d %% %s\n' "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}"
  done
}

# apt_install AS_ROOT NAMES: the status comes with apt's output, as sudo keeps no other descriptor open.
apt_install() {
  # shellcheck disable=SC2086 # the names are words
  $1 env DEBIAN_FRONTEND=noninteractive apt-get install -qq -o APT::Status-Fd=1 -o Dpkg::Use-Pty=0 -y --no-install-recommends $2 |
    show_progress
  return "${PIPESTATUS[0]}"
}

# install_packages NAME…: asks apt only for what is missing; says what it does and why it cannot.
install_packages() {
  local missing as_root=""
  command -v dpkg-query >/dev/null || { echo "not Debian: install by hand what README.md names" >&2; return 0; }
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "missing packages and neither root nor sudo; install: $missing" >&2; return 1; }
    as_root=sudo
  fi
  echo "installing: $missing"
  # Without package lists, or with old ones, the first attempt fails; only what the second one says counts.
  apt_install "$as_root" "$missing" 2>/dev/null && return 0
  echo "fetching the package lists"
  $as_root apt-get update -qq || return 1
  apt_install "$as_root" "$missing"
}
