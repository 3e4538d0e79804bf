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
Debian 12/13 and Ubuntu 22.04/24.04/26.04. Works as root and through sudo. On WSL2 the driver is
that of Windows, and none is installed here.

  --check           change nothing; list what is there and what is missing
  --dry-run         print the commands, which root would run, instead of running them
  --with-driver     install the distribution's NVIDIA driver, without X, where it is missing
  --restart-daemon  restart the Docker daemon, with or without systemd, and wait for its answer
  --help            this text

Environment: NVIDIA_TOOLKIT_REPOSITORY (where the toolkit's Debian packages are mirrored),
DOCKERD_LOG (daemon's log where systemd does not run it; /var/log/dockerd.log).

Exit codes: 0 ready; 1 something is missing or failed; 2 usage or an unsupported system;
            3 a reboot is needed, with Secure Boot perhaps an enrolment, then run this again.
Example: sudo ./install_cuda_docker.sh
TEXT
}

readonly NVIDIA_PACKAGES=https://nvidia.github.io/libnvidia-container
readonly TOOLKIT_REPOSITORY=${NVIDIA_TOOLKIT_REPOSITORY:-$NVIDIA_PACKAGES}
readonly DAEMON_LOG=${DOCKERD_LOG:-/var/log/dockerd.log}
# Tests point these elsewhere.
readonly ROOT=${TRAINBENCH_ROOT:-}
readonly WAIT_S=${TRAINBENCH_DAEMON_WAIT_S:-60}
readonly SECURE_BOOT=SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
readonly WSL_LIB=$ROOT/usr/lib/wsl/lib
readonly APT=(apt-get -o DPkg::Lock::Timeout=300)
# Prints the package with nvidia-smi of the server driver that is installed; a version follows it.
readonly SERVER_UTILS="dpkg-query -W 'nvidia-headless-*' | sed -nE \
's/^nvidia-headless-(no-dkms-)?([0-9]+-server)\S*\s\S.*/nvidia-utils-\2/p' | sort -V | tail -n 1"
# Under sudo, or for a user, these may be absent from it.
PATH=$PATH:$ROOT/usr/sbin:$ROOT/sbin:$WSL_LIB
mode=install
with_driver=no
lists_fresh=no
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
  case $(system) in
    debian:12 | debian:13 | ubuntu:22.04 | ubuntu:24.04 | ubuntu:26.04) ;;
    *)
      [[ $mode == check ]] && return
      engine_answers && return
      echo "unsupported system $(os_release ID) $(os_release VERSION_ID):" \
        "wanted Debian 12/13 or Ubuntu 22.04/24.04/26.04;" \
        "install Docker and the NVIDIA Container Toolkit by hand, then run --check" >&2
      exit 2
      ;;
  esac
}

system() { echo "$(os_release ID):$(os_release VERSION_ID)"; }

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
    change "installed Docker (docker.io)" install_docker
  elif ! command -v docker >/dev/null; then
    change "installed the docker command" install_docker
  fi
  row "Docker engine" "not answering" "running" missing
  change "started the Docker daemon" start_daemon
}

install_docker() {
  # Debian took the command itself out of docker.io.
  if [[ $(system) == debian:13 ]]; then apt_install docker.io docker-cli iptables; return; fi
  apt_install docker.io iptables
}

engine_answers() { timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

has_systemd() { [[ -d $ROOT/run/systemd/system ]]; }

start_daemon() {
  if has_systemd; then
    run systemctl enable --now docker || return
  else
    forget_dead_daemon
    # Its own session: the daemon outlives this script and the terminal.
    shell "setsid nohup dockerd --log-level=warn >>${DAEMON_LOG@Q} 2>&1 </dev/null &"
  fi
  wait_for_engine
}

restart_daemon() {
  if has_systemd; then
    run systemctl restart docker && wait_for_engine
  else
    stop_daemon && start_daemon
  fi
}

stop_daemon() {
  local pid i
  # The daemon of a dry run is perhaps one that it only would have started.
  if [[ $mode == dry-run ]]; then shell "kill \$(cat $ROOT/var/run/docker.pid)"; return; fi
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
  [[ -e $ROOT/run/docker.pid || -e $ROOT/var/run/docker.pid ]] || return 0
  daemon_pid >/dev/null || run rm -f "$ROOT/run/docker.pid" "$ROOT/var/run/docker.pid"
}

daemon_pid() {
  local pid
  pid=$(cat "$ROOT/var/run/docker.pid" 2>/dev/null) || return 1
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) == dockerd ]] && echo "$pid"
}

wait_for_engine() {
  local i
  [[ $mode != dry-run ]] || return 0
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

# A display or 3D controller of NVIDIA on the PCI bus, a loaded driver, or the driver of a WSL host:
# WSL shows a GPU of any vendor as /dev/dxg, and brings nvidia-smi where Windows has the driver.
has_gpu() {
  local device
  if is_wsl; then [[ -e $WSL_LIB/nvidia-smi ]]; return; fi
  [[ -e $ROOT/proc/driver/nvidia/version ]] && return
  for device in "$ROOT"/sys/bus/pci/devices/*; do
    [[ $(cat "$device/vendor" 2>/dev/null) == 0x10de ]] || continue
    [[ $(cat "$device/class" 2>/dev/null) == 0x03* ]] && return
  done
  return 1
}

is_wsl() {
  [[ -e $ROOT/dev/dxg ]] || grep -qi microsoft "$ROOT/proc/sys/kernel/osrelease" 2>/dev/null
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
  if [[ $(docker info --format '{{json .Runtimes}}' 2>/dev/null) == *'"nvidia"'* ]]; then
    row "Docker's NVIDIA runtime" configured configured ok
  else
    row "Docker's NVIDIA runtime" "not configured" configured missing
    change "configured the NVIDIA runtime in Docker" configure_runtime
  fi
  cdi_part
}

configure_runtime() { run nvidia-ctk runtime configure --runtime=docker && restart_daemon; }

# The names of the driver's files for engines that give GPUs by CDI. It can be made only where the
# driver works, and one of another version of the driver names files that are not there any more.
cdi_part() {
  local version files=()
  if ! version=$(driver_version); then
    row "CDI specification" "not wanted without a driver" "of the driver" missing
    return
  fi
  mapfile -t files < <(compgen -G "$ROOT/etc/cdi/nvidia*"; compgen -G "$ROOT/var/run/cdi/nvidia*")
  if [[ ${#files[@]} -gt 0 ]] && { is_wsl || grep -qF "$version" "${files[@]}"; }; then
    row "CDI specification" "of the driver" "of the driver" ok
    return
  fi
  row "CDI specification" "none of this driver" "of the driver" missing
  change "wrote the CDI specification" \
    run nvidia-ctk cdi generate --output="$ROOT/etc/cdi/nvidia.yaml"
}

# --- The driver

driver_part() {
  local version
  if version=$(driver_version); then
    row "NVIDIA driver" "$version" loaded ok
    has_libcuda || missing_library
    return 0
  fi
  row "NVIDIA driver" "$(driver_state)" loaded missing
  if is_wsl; then
    missing "the NVIDIA driver of Windows: install or update it in Windows, then run" \
      "'wsl --shutdown' there; a Linux driver in WSL2 would hide it"
  elif command -v nvidia-smi >/dev/null; then
    not_loaded "the driver is installed but not loaded (nvidia-smi fails)"
  elif [[ $with_driver == yes ]]; then
    change "installed the NVIDIA driver" install_driver
    [[ $mode != install ]] || loads || not_loaded "the driver was installed"
  else
    missing "the NVIDIA driver: run again with --with-driver, or install it by hand"
  fi
  return 0
}

driver_version() {
  local found
  found=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null) &&
    [[ -n $found ]] && head -n 1 <<<"$found"
}

# A kernel module alone lets no program ask for its GPUs.
driver_state() {
  if [[ -e $ROOT/proc/driver/nvidia/version ]] && ! command -v nvidia-smi >/dev/null; then
    echo "loaded, without nvidia-smi"
  else
    echo "not loaded"
  fi
}

# nvidia-smi works without it, and TensorFlow does not.
has_libcuda() { is_wsl || [[ $(ldconfig -p 2>/dev/null) == *libcuda.so.1* ]]; }

missing_library() {
  row "CUDA driver library" "not found" libcuda.so.1 missing
  if [[ $with_driver == yes && $(os_release ID) == debian ]]; then
    change "installed the CUDA driver library" apt_install libcuda1
  else
    missing "libcuda.so.1: run again with --with-driver, or install it by hand"
  fi
}

# What computes, without X. Debian's driver package only recommends it, so each is named. Ubuntu's
# own tool knows which driver fits the GPU, and leaves out nvidia-smi.
install_driver() {
  if [[ $(os_release ID) == ubuntu ]]; then
    apt_install ubuntu-drivers-common && run ubuntu-drivers install --gpgpu || return
    # shellcheck disable=SC2016  # for the shell that runs the line
    shell "utils=\$($SERVER_UTILS); $(apt_line '${utils:?no server driver for this GPU}')"
    return
  fi
  update_lists || return
  if ! offered nvidia-smi; then
    echo "nvidia-smi is not in the configured package sources: add the components contrib," \
      "non-free and non-free-firmware to Debian's lines in /etc/apt/sources.list" \
      "or sources.list.d" >&2
    return 1
  fi
  # shellcheck disable=SC2046  # one word per package
  apt_install $(kernel_headers) nvidia-kernel-dkms nvidia-smi libcuda1
}

# Those of the running kernel, where they are still offered, and of the next.
kernel_headers() {
  local release flavour
  release=$(uname -r)
  flavour=$(grep -oE '(cloud-|rt-)?(amd64|arm64)$' <<<"$release" || dpkg --print-architecture)
  if offered "linux-headers-$release"; then
    echo "linux-headers-$release"
  fi
  echo "linux-headers-$flavour"
}

# A machine that nouveau has not taken can use the driver at once.
loads() { modprobe nvidia 2>/dev/null && driver_version >/dev/null; }

# Why an installed driver is not loaded, and what helps.
not_loaded() {
  local key
  if [[ $1 != *"was installed" ]] && command -v modinfo >/dev/null &&
    ! modinfo nvidia >/dev/null 2>&1; then
    missing "the driver's module for kernel $(uname -r): install its linux-headers, see" \
      "'dkms status'"
  elif secure_boot && key=$(unenrolled_key); then
    needed "enrol the driver's key, which Secure Boot wants (a reboot alone does not help): run" \
      "'mokutil --import $key' as root, with a password of your choice, reboot, choose" \
      "'Enroll MOK' in the blue menu, give that password, then run this again: $1"
  else
    needed "reboot this machine, then run this again: $1"
  fi
}

secure_boot() {
  local state variable=$ROOT/sys/firmware/efi/efivars/$SECURE_BOOT
  if state=$(mokutil --sb-state 2>/dev/null); then
    [[ $state == *"SecureBoot enabled"* ]]
  else
    [[ -r $variable && $(tail -c 1 "$variable" | od -An -tu1) -eq 1 ]]
  fi
}

# The key that DKMS signs with, unless the firmware knows it; Ubuntu's own modules need none.
unenrolled_key() {
  local key signer
  signer=$(modinfo -F signer nvidia 2>/dev/null || true)
  [[ $signer != *Canonical* ]] || return 1
  for key in /var/lib/shim-signed/mok/MOK.der /var/lib/dkms/mok.pub; do
    [[ -e $ROOT$key ]] || continue
    [[ $(mokutil --test-key "$ROOT$key" 2>/dev/null) != *"already enrolled"* ]] || return 1
    echo "$key"
    return
  done
  echo /var/lib/dkms/mok.pub
}

needed() {
  if [[ $mode != install ]]; then missing "$@"; return; fi
  echo "$*"
  exit 3
}

install_toolkit() {
  local key=/usr/share/keyrings/nvidia-container-toolkit-keyring.asc
  local list=$ROOT/etc/apt/sources.list.d/nvidia-container-toolkit.list line
  line="deb [signed-by=$key] $TOOLKIT_REPOSITORY/stable/deb/$(dpkg --print-architecture) /"
  if ! offered nvidia-container-toolkit; then
    apt_install ca-certificates curl &&
      run curl -fsSL --retry 3 "$TOOLKIT_REPOSITORY/gpgkey" -o "$key" &&
      shell "echo ${line@Q} >${list@Q}" || return
    lists_fresh=no
  fi
  apt_install nvidia-container-toolkit
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

apt_install() { update_lists && shell "$(apt_line "$@")"; }

apt_line() {
  echo "DEBIAN_FRONTEND=noninteractive ${APT[*]} install -y -qq --no-install-recommends $*"
}

# Whether a source has the package. Not by `| grep -q`, which ends early: the pipe would count as
# failed.
offered() { [[ -n $(apt-cache show "$1" 2>/dev/null) ]]; }

update_lists() {
  [[ $lists_fresh == yes ]] && return
  run "${APT[@]}" update -qq && lists_fresh=yes
}

# Everything that changes the machine goes through one of these two: a command, or a line of shell.
run() {
  local word words=()
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then words+=("$word"); else words+=("${word@Q}"); fi
  done
  if [[ $mode == dry-run ]]; then echo "would run: ${words[*]}"; else "$@" >&2; fi
}

shell() {
  if [[ $mode == dry-run ]]; then echo "would run: $1"; else bash -c "$1" >&2; fi
}

# Runs a command as `set -e` does not: a failing one ends the script with the table and the reason.
change() {
  local what=$1
  shift
  case $mode in
    check) missing_list+=("not ${what}") ;;
    dry-run) "$@" || missing_list+=("not $what: see above") ;;
    *)
      if "$@"; then done_list+=("$what"); else
        missing_list+=("failed: not $what")
        summary
      fi
      ;;
  esac
}

missing() { missing_list+=("$*"); }

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
