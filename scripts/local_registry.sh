#!/usr/bin/env bash
# A loopback image registry with debian:bookworm-slim, for sites that reach no image registry.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/local_registry.sh [--check | --stop | --dry-run | --help]

Serves debian:bookworm-slim on 127.0.0.1:5000 and makes Docker look there first, so that the
unchanged Dockerfiles build where no image registry answers. The image is made by debootstrap from
the Debian mirror that this machine's own apt uses. Running it again does only what is missing.

The image contains what a container needs to reach the site's package mirrors: the machine's
certificate bundle (at a path of its own) where the site has its own authority, the proxies of apt
and of the environment, and the pip index that pip is configured with. Do not use it elsewhere.
Users, passwords and tokens in these addresses are left out of it. Where a proxy asks for them, put
it into ~/.docker/config.json ("proxies"): Docker gives it to a build, and not to the image.

  --check    change nothing; list what is there and what is missing
  --stop     stop the registry and take it out of Docker's configuration; the image is kept
  --dry-run  print what would be done
  --help     this text

Environment: DEBIAN_MIRROR (needed where apt uses no Debian mirror, on Ubuntu for example),
REGISTRY_PORT (5000), REGISTRY_HOME (/var/lib/trainbench-registry).
Exit codes: 0 the registry serves the image; 1 failed or, with --check, missing; 2 usage.
Example: sudo scripts/local_registry.sh
TEXT
}

readonly PORT=${REGISTRY_PORT:-5000}
readonly HOME_DIR=${REGISTRY_HOME:-/var/lib/trainbench-registry}
readonly DAEMON_JSON=${DAEMON_JSON:-/etc/docker/daemon.json}
readonly MIRROR_URL=http://127.0.0.1:$PORT
readonly IMAGE=localhost:$PORT/library/debian:bookworm-slim
readonly CA_IN_IMAGE=/etc/ssl/certs/site-ca-bundle.crt
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE

main() {
  case ${1:-} in
    -h | --help) usage ;;
    --check) check ;;
    --dry-run) plan ;;
    --stop) as_root "$@"; stop ;;
    "") as_root; serve ;;
    *) echo "local_registry.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
}

as_root() {
  [[ $(id -u) == 0 ]] && return
  command -v sudo >/dev/null || fail "not root and no sudo: run this as root"
  exec sudo --preserve-env bash "${BASH_SOURCE[0]}" "$@"
}

fail() {
  echo "local_registry.sh: $*" >&2
  exit 1
}

say() { echo "[local registry] $*"; }

serve() {
  install_tools
  start_registry
  has_current_image || make_image
  point_docker_here
  docker pull -q debian:bookworm-slim >/dev/null ||
    fail "Docker does not find the image through $MIRROR_URL"
  say "ready: debian:bookworm-slim comes from $MIRROR_URL"
}

check() {
  local state=0
  answers || { say "no registry answers on $MIRROR_URL"; state=1; }
  if [[ $state == 0 ]] && ! has_current_image; then
    say "the registry has no current debian:bookworm-slim"
    state=1
  fi
  configured || { say "$DAEMON_JSON does not name $MIRROR_URL"; state=1; }
  [[ $state == 0 ]] && say "ready on $MIRROR_URL"
  return $state
}

plan() {
  echo "would install debootstrap and docker-registry where they are missing"
  echo "would make debian:bookworm-slim from $(debian_mirror | without_secrets)"
  echo "would serve it on $MIRROR_URL"
  echo "would add $MIRROR_URL to registry-mirrors in $DAEMON_JSON and reload Docker"
}

stop() {
  local pid
  if pid=$(registry_pid); then
    kill "$pid"
    say "stopped"
  fi
  configured || return 0
  edit_daemon_json remove
  if docker version >/dev/null 2>&1; then reload_docker without; fi
}

# --- The registry

install_tools() {
  local missing=()
  command -v debootstrap >/dev/null || missing+=(debootstrap)
  command -v docker-registry >/dev/null || missing+=(docker-registry)
  [[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || missing+=(debian-archive-keyring)
  [[ ${#missing[@]} == 0 ]] && return
  say "installing ${missing[*]}"
  apt-get -o DPkg::Lock::Timeout=300 update -qq
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq \
    --no-install-recommends "${missing[@]}" >/dev/null
  # The package's own service listens on every address; ours listens on loopback only.
  if [[ -d /run/systemd/system ]]; then
    systemctl disable --now docker-registry >/dev/null 2>&1 || true
  fi
}

start_registry() {
  answers && return
  mkdir -p "$HOME_DIR/images"
  cat >"$HOME_DIR/config.yml" <<TEXT
version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: $HOME_DIR/images}
  cache: {blobdescriptor: inmemory}
http: {addr: "127.0.0.1:$PORT"}
TEXT
  setsid nohup docker-registry serve "$HOME_DIR/config.yml" >"$HOME_DIR/log" 2>&1 </dev/null &
  echo $! >"$HOME_DIR/pid"
  for _ in {1..50}; do
    answers && return
    sleep 0.2
  done
  fail "no answer on $MIRROR_URL: $(tail -n 1 "$HOME_DIR/log")"
}

answers() { get / >/dev/null 2>&1; }

# GET from the registry's API; bash alone, because curl is not on every machine.
get() {
  python3 - "$MIRROR_URL/v2$1" <<'PY'
import sys
import urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open(sys.argv[1], timeout=3).read().decode())
PY
}

registry_pid() {
  local pid
  pid=$(cat "$HOME_DIR/pid" 2>/dev/null) || return 1
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) == docker-registr* ]] && echo "$pid"
}

# --- The image

# The image is current while what it was made from is unchanged.
has_current_image() {
  get /library/debian/tags/list 2>/dev/null | grep -q bookworm-slim &&
    [[ $(cat "$HOME_DIR/made-from" 2>/dev/null) == "$(inputs)" ]]
}

inputs() {
  { debian_mirror | without_secrets; image_settings; cat "$(site_ca)" 2>/dev/null; } | sha256sum
}

make_image() {
  local root start=$SECONDS options=() setting log=$HOME_DIR/debootstrap.log
  root=$(mktemp -d "$HOME_DIR/rootfs.XXXXXX")
  # shellcheck disable=SC2064  # the folder's name is known now
  trap "rm -rf '$root'" EXIT
  say "making debian:bookworm-slim from this machine's Debian mirror (about half a minute)"
  debootstrap --variant=minbase --include="$(https_needs)" bookworm "$root" "$(debian_mirror)" \
    2>&1 | without_secrets >"$log" || fail "debootstrap: $(tail -n 1 "$log") (whole log: $log)"
  slim "$root"
  write_sources "$root"
  if [[ -n $(site_ca) ]]; then install -D -m 644 "$(site_ca)" "$root$CA_IN_IMAGE"; fi
  if [[ $(image_settings) != "$(site_settings)" ]]; then
    say "left out of the image: the passwords and tokens of its proxies and package indexes"
  fi
  while read -r setting; do options+=(-c "ENV $setting"); done < <(image_settings)
  tar -C "$root" -c . | docker import "${options[@]}" -c 'CMD ["bash"]' - "$IMAGE" >/dev/null
  docker push -q "$IMAGE" >/dev/null
  inputs >"$HOME_DIR/made-from"
  say "made in $((SECONDS - start)) s"
}

# The first mirror of apt's own sources that serves Debian's main archive.
debian_mirror() {
  [[ -n ${DEBIAN_MIRROR:-} ]] && { echo "$DEBIAN_MIRROR"; return; }
  apt_uris | grep -v -i -E 'ubuntu|security' | grep -m 1 -E '/debian/?$' ||
    fail "apt on this machine uses no Debian mirror: set DEBIAN_MIRROR to one"
}

apt_uris() {
  sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | tr ' ' '\n' || true
  sed -n -E 's/^deb +(\[[^]]*\] +)?([^ ]+).*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true
}

https_needs() {
  if [[ $(debian_mirror) == https:* ]]; then echo ca-certificates; else echo apt; fi
}

slim() {
  rm -rf "$1"/usr/share/{doc,man,info,locale,lintian}/* "$1"/var/cache/apt/archives/*.deb \
    "$1"/var/lib/apt/lists/* "$1"/var/cache/debconf/*-old "$1"/var/log/*.log
}

write_sources() {
  local security
  {
    echo "deb $(debian_mirror) bookworm main"
    echo "deb $(debian_mirror) bookworm-updates main"
    security=$(apt_uris | grep -m 1 -E 'debian-security/?$') &&
      echo "deb $security bookworm-security main"
  } | without_secrets >"$1/etc/apt/sources.list" || true
  apt-config dump 2>/dev/null | grep -E '^Acquire::(https?::Proxy|Check-Valid-Until)' |
    without_secrets >"$1/etc/apt/apt.conf.d/90site" || true
}

# The machine's bundle where the site has an authority of its own; nothing elsewhere.
site_ca() {
  local bundle=${PIP_CERT:-${SSL_CERT_FILE:-${REQUESTS_CA_BUNDLE:-}}}
  if [[ -z $bundle ]] && compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
    bundle=/etc/ssl/certs/ca-certificates.crt
  fi
  echo "$bundle"
}

image_settings() { site_settings | without_secrets; }

# Text without the users, passwords and tokens of its addresses, as trainbench shows and stores it.
without_secrets() {
  python3 -c '
import runpy, sys
hide = runpy.run_path(sys.argv[1])["without_secrets"]
for line in sys.stdin:
    print(hide(line), end="", flush=True)
' "$HERE/../src/trainbench/display/secrets.py"
}

site_settings() {
  local name value
  if [[ -n $(site_ca) ]]; then
    for name in PIP_CERT SSL_CERT_FILE REQUESTS_CA_BUNDLE; do echo "$name=$CA_IN_IMAGE"; done
  fi
  for name in http_proxy https_proxy no_proxy PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST; do
    value=${!name:-}
    [[ $name == PIP_* && -z $value ]] && value=$(pip_setting "$name")
    # A file: address names a folder of this machine, which a container does not have.
    if [[ -n $value && $value != *file:* && $value != *" "* ]]; then echo "$name=$value"; fi
  done
}

pip_setting() {
  local key=${1#PIP_}
  key=${key,,}
  python3 -m pip config get "global.${key//_/-}" 2>/dev/null || true
}

# --- Docker's configuration

configured() { grep -qs "$MIRROR_URL" "$DAEMON_JSON"; }

point_docker_here() {
  configured && return
  edit_daemon_json add
  reload_docker with
}

edit_daemon_json() {
  python3 - "$1" "$DAEMON_JSON" "$MIRROR_URL" <<'PY'
import json
import os
import sys

action, path, mirror = sys.argv[1:]
text = open(path).read() if os.path.exists(path) else ""
settings = json.loads(text) if text.strip() else {}
mirrors = [url for url in settings.get("registry-mirrors", []) if url.rstrip("/") != mirror]
# A list that is empty stays: the daemon keeps its mirrors when a reload names none.
settings["registry-mirrors"] = [mirror, *mirrors] if action == "add" else mirrors
os.makedirs(os.path.dirname(path), exist_ok=True)
with open(path + ".new", "w") as file:
    json.dump(settings, file, indent=2)
    file.write("\n")
os.replace(path + ".new", path)
PY
  say "$1: registry mirror $MIRROR_URL in $DAEMON_JSON"
}

# The daemon takes other mirrors on reload: running containers go on.
reload_docker() {
  local wanted=$1
  if [[ -d /run/systemd/system ]]; then
    systemctl reload docker
  else
    kill -HUP "$(cat /var/run/docker.pid)"
  fi
  for _ in {1..25}; do
    [[ $(mirrored) == "$wanted" ]] && return
    sleep 0.2
  done
  "$HERE/../install_cuda_docker.sh" --restart-daemon
}

mirrored() {
  local mirrors
  mirrors=$(docker info --format '{{.RegistryConfig.Mirrors}}' 2>/dev/null)
  if [[ $mirrors == *"$MIRROR_URL"* ]]; then echo with; else echo without; fi
}

main "$@"
