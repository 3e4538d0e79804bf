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

# The caller's own python3 unless it is newer than 3.NEWEST; then another one that is not, if there
# is one.
find_python() {
  local newest=$1 name limit
  for limit in "$newest" 99; do
    for name in python3 python3.13 python3.12 python3.11 python3.10; do
      if "$name" -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $limit))" \
        2>/dev/null; then
        command -v "$name"
        return
      fi
    done
  done
  fail 6 "no Python 3.10 or later found: install python3 and python3-venv"
}

# Published as source code alone; of all else only a wheel will do, since a source of TensorFlow or
# NumPy would be compiled for hours, or fail with pages of text.
readonly SOURCE_ALONE=popper,docopt,dockerpty
readonly PIP_INSTALL=(-m pip install -qq --disable-pip-version-check --require-hashes --no-deps
  --only-binary ":all:" --no-binary "$SOURCE_ALONE")

# Debian and Ubuntu have venv's half, ensurepip, in a package of its own.
make_venv() {
  local python=$1 folder=$2 output
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    apt_install "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" ||
      fail 6 "$python: its package for venv could not be installed (see above)"
  fi
  output=$("$python" -m venv "$folder" 2>&1) && return
  rm -rf "$folder"
  fail 6 "$folder: $python -m venv failed; see what it said: $(tail -n 1 <<<"$output")"
}

# make_environment DIR REQUIREMENTS [NEWEST]: installs again only when the requirements, or the
# system's Python, have changed. NEWEST: Python 3.NEWEST is the last for which all have wheels.
make_environment() {
  local folder=$1 requirements=$2 newest=${3:-99} python wanted made
  wanted=$(sha256sum <"$requirements")
  if [[ -e $folder/.installed ]] && ! "$folder/bin/python" -c 'import pip' 2>/dev/null; then
    rm -rf "$folder"
  fi
  [[ $(cat "$folder/.installed" 2>/dev/null) == "$wanted" ]] && return
  python=$(find_python "$newest") || exit
  made=$([[ -e $folder ]] || echo yes)
  say "setting up $folder from $requirements ($("$python" --version))"
  [[ -w $(dirname "$folder") ]] ||
    fail 6 "$PWD: not writable for $(id -un), and $folder is made in it: use a clone of your own"
  [[ -x $folder/bin/python ]] || make_venv "$python" "$folder"
  # A resolver has nothing to resolve here: every package is pinned, and by hash.
  if ! "$folder/bin/python" "${PIP_INSTALL[@]}" -r "$requirements"; then
    python="$("$folder/bin/python" --version) on $(uname -m)"
    wanted=$(without_wheel "$folder" "$requirements")
    [[ -n $wanted ]] || fail 6 "$folder: pip could not install $requirements (see above)"
    # For the Python that is installed next.
    [[ -z $made ]] || rm -rf "$folder"
    fail 6 "$python: no wheel of$wanted; install a Python of 3.10 to 3.13" \
      "(docs/environments.md has those that were tried)"
  fi
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

# The packages that the index has, and no wheel of them for this Python and processor.
without_wheel() {
  local folder=$1 rest said name
  rest=$(mktemp)
  cp "$2" "$rest"
  while ! said=$("$folder/bin/python" "${PIP_INSTALL[@]}" --dry-run -r "$rest" 2>&1); do
    name=$(sed -n 's/^ERROR: No matching distribution found for \([^ ]*\).*/\1/p' <<<"$said")
    [[ -n $name ]] || break
    echo -n " $name"
    # The package's line, and those of its hashes.
    awk -v name="$name" '/^[^ ]/ { skip = ($1 == name) } !skip' "$rest" >"$rest.less"
    mv "$rest.less" "$rest"
  done
  rm -f "$rest"
}

# A Python that has what trainbench imports, with it on PYTHONPATH: .venv, the caller's python3 (an
# image's), or a new .venv.
project_python() {
  local python
  for python in .venv/bin/python python3; do
    if PYTHONPATH=src "$python" -c 'import trainbench.cli.main' 2>/dev/null; then
      command -v "$python"
      return
    fi
  done
  [[ -e requirements.lock ]] ||
    fail 6 "no Python here has trainbench: activate the environment into which it was installed"
  make_environment .venv requirements.lock 13 >&2 || exit
  install_project >&2 || exit
  echo .venv/bin/python
}
