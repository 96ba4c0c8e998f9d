# The Debian packages Millrace needs, by name, and how they get there. Sourced by check and quickstart.
# What each is for stands in README.md, "Dependencies".

packages_to_build="g++-12 meson ninja-build pkg-config liburing-dev libxxhash-dev libflatbuffers-dev
  flatbuffers-compiler libfmt-dev libspdlog-dev libcli11-dev nlohmann-json3-dev"
packages_to_check="$packages_to_build clang-19 libclang-rt-19-dev llvm-19 clang-format-19 libgtest-dev libbenchmark-dev
  python3 e2fsprogs xfsprogs btrfs-progs mount util-linux binutils debootstrap"

missing_packages() {
  local name
  for name in "$@"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q '^install ok installed$' || printf '%s ' "$name"
  done
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
  # shellcheck disable=SC2086 # the names are words
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -o Dpkg::Use-Pty=0 -y --no-install-recommends $missing 2>/dev/null && return 0
  $as_root apt-get update -qq || return 1
  # shellcheck disable=SC2086
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -o Dpkg::Use-Pty=0 -y --no-install-recommends $missing
}
