#!/usr/bin/env bash
# Prepares a machine for the workflow: Docker and, with an NVIDIA GPU, what containers need for it.
# shellcheck disable=SC2329  # functions are handed to change()
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: install_cuda_docker.sh [--check | --dry-run | --restart-daemon] [--with-driver] [--help]

Installs what is missing and proves it by running a container. Running it again changes nothing.
  Docker                    from the distribution, where no Docker daemon is installed; then started
  NVIDIA driver             checked, where there is an NVIDIA GPU; installed only with --with-driver
  NVIDIA Container Toolkit  installed and configured in Docker, where there is an NVIDIA GPU
Debian 12/13 and Ubuntu 22.04/24.04. Works as root and through sudo.

  --check           change nothing; list what is there and what is missing
  --dry-run         print the commands instead of running them
  --with-driver     install the distribution's NVIDIA driver where it is missing
  --restart-daemon  restart the Docker daemon, with or without systemd, and wait for its answer
  --help            this text

Environment: NVIDIA_TOOLKIT_REPOSITORY (where the toolkit's Debian packages are mirrored),
DOCKERD_LOG (daemon's log where systemd does not run it; /var/log/dockerd.log).

Exit codes: 0 ready; 1 something is missing or failed; 2 usage or an unsupported system;
            3 a reboot is needed, then run this again.
Example: sudo ./install_cuda_docker.sh
TEXT
}

readonly NVIDIA_PACKAGES=https://nvidia.github.io/libnvidia-container
readonly TOOLKIT_REPOSITORY=${NVIDIA_TOOLKIT_REPOSITORY:-$NVIDIA_PACKAGES}
readonly DAEMON_LOG=${DOCKERD_LOG:-/var/log/dockerd.log}
# Tests point these elsewhere.
readonly ROOT=${TRAINBENCH_ROOT:-}
readonly WAIT_S=${TRAINBENCH_DAEMON_WAIT_S:-60}
mode=install
with_driver=no
apt_fresh=no
done_list=()
missing_list=()

main() {
  parse "$@"
  [[ $mode == restart ]] && { as_root; restart_daemon; exit; }
  require_supported_system
  [[ $mode == install ]] && as_root
  docker_part
  has_gpu && gpu_part
  [[ $mode == dry-run ]] || prove
  summary
}

parse() {
  local argument
  for argument in "$@"; do
    case $argument in
      --check) mode=check ;;
      --dry-run) mode=dry-run ;;
      --restart-daemon) mode=restart ;;
      --with-driver) with_driver=yes ;;
      -h | --help) usage; exit 0 ;;
      *) echo "install_cuda_docker.sh: unknown option $argument (see --help)" >&2; exit 2 ;;
    esac
  done
}

require_supported_system() {
  local id version
  id=$(os_release ID)
  version=$(os_release VERSION_ID)
  case $id:$version in
    debian:12 | debian:13 | ubuntu:22.04 | ubuntu:24.04) ;;
    *)
      [[ $mode == check ]] && return
      engine_answers && return
      echo "unsupported system ${id:-unknown} ${version:-}:" \
        "wanted Debian 12/13 or Ubuntu 22.04/24.04;" \
        "install Docker and the NVIDIA Container Toolkit by hand, then run --check" >&2
      exit 2
      ;;
  esac
}

os_release() { sed -n "s/^$1=//p" "$ROOT/etc/os-release" 2>/dev/null | tr -d '"'; }

as_root() {
  [[ $(id -u) == 0 ]] && return
  command -v sudo >/dev/null || { echo "not root and no sudo: run this as root" >&2; exit 1; }
  local options=()
  [[ $mode == restart ]] && options+=(--restart-daemon)
  [[ $with_driver == yes ]] && options+=(--with-driver)
  exec sudo --preserve-env=NVIDIA_TOOLKIT_REPOSITORY,DOCKERD_LOG bash "$0" "${options[@]}"
}

# --- Docker

docker_part() {
  if engine_answers; then
    row "Docker engine" "$(docker version --format '{{.Server.Version}}' 2>/dev/null)" "running" ok
    return
  fi
  if ! command -v dockerd >/dev/null; then
    row "Docker engine" "not installed" "installed" missing
    change "installed Docker (docker.io)" apt_install docker.io iptables
  fi
  command -v docker >/dev/null || change "installed the docker command" apt_install docker-cli
  row "Docker engine" "not answering" "running" missing
  change "started the Docker daemon" start_daemon
}

engine_answers() { timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

has_systemd() { [[ -d $ROOT/run/systemd/system ]]; }

start_daemon() {
  if has_systemd; then
    systemctl enable --now docker || return
  else
    forget_dead_daemon
    # Its own session: the daemon outlives this script and the terminal.
    setsid nohup dockerd --log-level=warn >>"$DAEMON_LOG" 2>&1 </dev/null &
  fi
  wait_for_engine
}

restart_daemon() {
  if has_systemd; then
    systemctl restart docker && wait_for_engine
  else
    stop_daemon && start_daemon
  fi
}

stop_daemon() {
  local pid i
  pid=$(daemon_pid) || return 0
  kill "$pid"
  for ((i = 0; i < 60; i++)); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.5
  done
  echo "the Docker daemon (process $pid) does not stop" >&2
  return 1
}

# A killed daemon leaves a pid file; a new one refuses to start if another process has that number.
forget_dead_daemon() {
  daemon_pid >/dev/null || rm -f "$ROOT/run/docker.pid" "$ROOT/var/run/docker.pid"
}

daemon_pid() {
  local pid
  pid=$(cat "$ROOT/var/run/docker.pid" 2>/dev/null) || return 1
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) == dockerd ]] && echo "$pid"
}

wait_for_engine() {
  local i
  for ((i = 0; i < WAIT_S; i++)); do
    engine_answers && return
    sleep 1
  done
  echo "the Docker daemon did not answer within $WAIT_S s; its last lines:" >&2
  if has_systemd; then
    journalctl -u docker -n 15 --no-pager >&2
  else
    tail -n 15 "$DAEMON_LOG" >&2
  fi
  return 1
}

# --- NVIDIA

# A display or 3D controller of NVIDIA on the PCI bus, a loaded driver, or the GPU of a WSL host.
has_gpu() {
  local device
  [[ -e $ROOT/proc/driver/nvidia/version || -e $ROOT/dev/dxg ]] && return
  for device in "$ROOT"/sys/bus/pci/devices/*; do
    [[ $(cat "$device/vendor" 2>/dev/null) == 0x10de ]] || continue
    [[ $(cat "$device/class" 2>/dev/null) == 0x03* ]] && return
  done
  return 1
}

gpu_part() {
  driver_part
  if command -v nvidia-ctk >/dev/null; then
    row "NVIDIA Container Toolkit" \
      "$(nvidia-ctk --version | sed -n 's/.*version //p' | head -n 1)" installed ok
  else
    row "NVIDIA Container Toolkit" "not installed" installed missing
    change "installed the NVIDIA Container Toolkit" install_toolkit
  fi
  if docker info --format '{{json .Runtimes}}' 2>/dev/null | grep -q '"nvidia"'; then
    row "Docker's NVIDIA runtime" configured configured ok
  else
    row "Docker's NVIDIA runtime" "not configured" configured missing
    change "configured the NVIDIA runtime in Docker" configure_runtime
  fi
}

driver_part() {
  if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
    row "NVIDIA driver" \
      "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)" loaded ok
    return
  fi
  row "NVIDIA driver" "not loaded" loaded missing
  if command -v nvidia-smi >/dev/null; then
    reboot_needed "the driver is installed but not loaded (nvidia-smi fails)"
  elif [[ $with_driver == yes ]]; then
    change "installed the NVIDIA driver" install_driver
    [[ $mode == install ]] && reboot_needed "the driver was installed"
  else
    missing_list+=("the NVIDIA driver: run again with --with-driver, or install it by hand")
  fi
  return 0
}

install_driver() {
  if [[ $(os_release ID) == ubuntu ]]; then
    apt_install ubuntu-drivers-common &&
      ubuntu-drivers install --gpgpu
  elif apt-cache show nvidia-driver >/dev/null 2>&1; then
    apt_install "linux-headers-$(uname -r)" nvidia-driver
  else
    echo "nvidia-driver is not in the configured package sources: add the components" \
      "contrib, non-free and non-free-firmware to them" >&2
    return 1
  fi
}

reboot_needed() {
  [[ $mode == install ]] || { missing_list+=("a reboot: $1"); return 0; }
  echo "reboot this machine, then run this again: $1"
  exit 3
}

install_toolkit() {
  local list=/etc/apt/sources.list.d/nvidia-container-toolkit.list
  local key=/usr/share/keyrings/nvidia-container-toolkit-keyring.asc
  if ! apt-cache show nvidia-container-toolkit >/dev/null 2>&1; then
    apt_install ca-certificates curl || return
    curl -fsSL --retry 3 "$TOOLKIT_REPOSITORY/gpgkey" -o "$key" || return
    echo "deb [signed-by=$key] $TOOLKIT_REPOSITORY/stable/deb/$(dpkg --print-architecture) /" \
      >"$list"
    apt_fresh=no
  fi
  apt_install nvidia-container-toolkit
}

configure_runtime() {
  nvidia-ctk runtime configure --runtime=docker &&
    nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml &&
    restart_daemon
}

# --- Proof

# A container from the machine's own files: the proof needs no image registry.
prove() {
  local word
  if [[ ${#missing_list[@]} -gt 0 ]] && ! engine_answers; then return; fi
  if ! word=$(run_proof /bin/echo ready 2>&1) || [[ $word != *ready ]]; then
    row "A container" "fails: ${word##*$'\n'}" runs missing
    missing_list+=("a container that runs")
  else
    row "A container" runs runs ok
  fi
  if has_gpu && command -v nvidia-smi >/dev/null; then prove_gpu; fi
  docker image rm --force trainbench-proof:local >/dev/null 2>&1 || true
}

prove_gpu() {
  local gpus
  if gpus=$(run_proof --gpus nvidia-smi -L 2>&1) && [[ $gpus == *GPU* ]]; then
    row "A container with the GPU" "$(grep -c GPU <<<"$gpus") GPU" runs ok
  else
    row "A container with the GPU" "fails: ${gpus##*$'\n'}" runs missing
    missing_list+=("a container that sees the GPU")
  fi
}

run_proof() {
  local gpus=() programs=(/bin/echo)
  if [[ $1 == --gpus ]]; then
    gpus=(--gpus all -e NVIDIA_DRIVER_CAPABILITIES=utility)
    programs+=("$(command -v nvidia-smi)")
    shift
  fi
  # shellcheck disable=SC2046  # a list of paths without spaces
  tar -C / -ch $({ printf '%s\n' "${programs[0]}"; ldd "${programs[@]}" | grep -o '/[^ :]*'; } |
    sort -u | grep -v nvidia-smi | cut -c 2-) 2>/dev/null |
    docker import -c 'ENV PATH=/usr/bin:/bin' - trainbench-proof:local >/dev/null
  docker run --rm --network none "${gpus[@]}" trainbench-proof:local "$@"
}

# --- Doing and telling

apt_install() {
  local options=(-o DPkg::Lock::Timeout=300)
  if [[ $apt_fresh == no ]]; then
    apt-get "${options[@]}" update -qq || return
    apt_fresh=yes
  fi
  DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install -y -qq \
    --no-install-recommends "$@" >&2
}

# Runs a command as `set -e` does not: a failing one ends the script with the table and the reason.
change() {
  local what=$1
  shift
  case $mode in
    check) missing_list+=("not ${what}") ;;
    dry-run) echo "would run: $*" ;;
    *)
      if "$@"; then done_list+=("$what"); else
        missing_list+=("failed: not $what")
        summary
      fi
      ;;
  esac
}

row() { printf '%-26s found %-28s wanted %-12s %s\n' "$1" "$2" "$3" "$4"; }

summary() {
  local item
  for item in "${done_list[@]}"; do echo "did: $item"; done
  for item in "${missing_list[@]}"; do echo "missing: $item"; done
  if [[ -n ${SUDO_USER:-} && $mode == install ]] && ! id -nG "$SUDO_USER" | grep -qw docker; then
    echo "note: $SUDO_USER may not use Docker yet:" \
      "run sudo usermod -aG docker $SUDO_USER, then log in again"
  fi
  if [[ $mode == dry-run ]]; then echo "nothing was changed"; exit 0; fi
  if [[ ${#missing_list[@]} -gt 0 ]]; then exit 1; fi
  echo "ready"
  exit 0
}

main "$@"
