# Python environments by hash, for the scripts that source this file.
# shellcheck shell=bash

say() { echo "[$(date +%H:%M:%S)] $*"; }

fail() {
  local code=$1
  shift
  echo "error: $*" >&2
  exit "$code"
}

apt_install() {
  command -v apt-get >/dev/null ||
    fail 6 "$* is missing and there is no apt-get: install it yourself"
  local as_root=()
  if [[ $(id -u) != 0 ]]; then
    command -v sudo >/dev/null || fail 6 "$* is missing: install it (neither root nor sudo here)"
    as_root=(sudo)
  fi
  say "installing $*"
  "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install \
    -y -qq --no-install-recommends "$@" >/dev/null
}

# The caller's own python3 where it is a supported one.
find_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11 python3.10; do
    if "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' \
      2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  fail 6 "no Python 3.10 to 3.13 found: install python3 and python3-venv"
}

# make_environment DIR REQUIREMENTS: installs again only when the requirements have changed.
make_environment() {
  local folder=$1 requirements=$2 python wanted
  wanted=$(sha256sum <"$requirements")
  [[ $(cat "$folder/.installed" 2>/dev/null) == "$wanted" ]] && return
  python=$(find_python) || exit
  say "setting up $folder from $requirements ($("$python" --version))"
  if [[ ! -x $folder/bin/python ]] && ! "$python" -m venv "$folder" >/dev/null 2>&1; then
    rm -rf "$folder"
    apt_install python3-venv
    "$(find_python)" -m venv "$folder"
  fi
  # A resolver has nothing to resolve here: every package is pinned, and by hash.
  "$folder/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes --no-deps \
    -r "$requirements" || fail 6 "$folder: pip could not install $requirements (see above)"
  # Also where the caller forbids bytecode: TensorFlow's import then takes 6 s instead of 10 s, and
  # the tests start it a hundred times. Some packages contain files for other Pythons; errors in
  # those do not matter.
  "$folder/bin/python" -m compileall -qq -j 0 "$folder"/lib/python*/site-packages || true
  echo "$wanted" >"$folder/.installed"
}

# Editable, so once is enough unless pyproject.toml or the version changes.
install_project() {
  local wanted
  wanted=$(cat pyproject.toml src/trainbench/__init__.py | sha256sum)
  [[ $(cat .venv/.project 2>/dev/null) == "$wanted" ]] && return
  say "installing trainbench into .venv"
  .venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --editable . ||
    fail 6 ".venv: pip could not install the project (see above)"
  echo "$wanted" >.venv/.project
}

