"""How the containers of wf.yml run on this machine: ``popper run -f wf.yml -c settings.py``.

Popper 2.5.0 imports this file and gives ``ENGINE`` to Docker for every step. Environment:

    PRESET       mlperf, reference, ml-1m, quick, rehearsal; default: mlperf with a GPU, else quick
    RUNS, SEED   number of trials; seed of the set
    SETTINGS     changes to the preset: "max_epochs=2 learning_rate=1e-3"
    DATA_DIR     folder of all data and results (default ./data)
    MIRROR       another source of the dataset: a URL, or a local folder (mounted read-only)
    SHA256       checksum of a mirror's archive that is not the published one
    HASH_DECIDES 1: go on where a server's certificate does not hold; the known SHA-256 decides
    DATASET      another dataset than the preset's; a name for your own RATINGS (default: own)
    EXPAND       expand the dataset fractally: 16x32 times its users and items
    RATINGS      a file of your own ratings (mounted read-only); how to read it: RATINGS_FORMAT,
                 _COLUMNS, _HEADER, _DUPLICATES, _POSITIVE_FROM, _HELD_OUT, _HELD_OUT_SEED
    REQUIRE_GPU  1: stop when there is no usable GPU
    NOTE, TAGS   what you say of the run: a text; words apart by spaces
    DROP_CACHES  0: do not drop the page cache; the results say so
    KEEP_CONTAINERS  1: keep the containers of the steps, for inspection
    DOCKER_HOST, DOCKER_CONTEXT  another engine than the default one

``python settings.py --probe`` looks whether the engine sees this machine as you do, and ends.

Popper 2.6 and 2.7 read YAML instead, and another wf.yml: ``python settings.py --popper-2.7 DIR``
writes both into DIR, with this environment; ``python settings.py`` prints the configuration alone.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

CHECKOUT = Path(__file__).resolve().parent
sys.path.insert(1, str(CHECKOUT / "src"))

from trainbench.errors import MachineError  # noqa: E402
from trainbench.machine.engine.context import same_bytes  # noqa: E402
from trainbench.machine.engine.endpoint import Endpoint, Kind, choose  # noqa: E402
from trainbench.machine.engine.probe import STEP_SOCKET, probe  # noqa: E402

# Popper passes no build arguments: these git-ignored files tell a Dockerfile what more to install.
ACCELERATOR = CHECKOUT / "containers" / "train" / "accelerator"
FORMATS = CHECKOUT / "containers" / "download" / "formats"
DATA_LABEL = "org.trainbench.data"  # the data folder that a container works on
POPPER_LABEL = "org.trainbench.popper"  # the process whose step it is
HOLDS_ENGINE = "train"  # the only step that gets the engine's socket: it drops the page cache
NVIDIA_NODES = ("/dev/nvidia0", "/dev/dxg", "/proc/driver/nvidia/gpus/*", "/dev/nvidia[0-9]*")
CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
CDI_GPU = "nvidia.com/gpu"
HANDED_ON = (
    *("PRESET", "RUNS", "SEED", "SHA256", "HASH_DECIDES", "REQUIRE_GPU", "DROP_CACHES", "DATASET"),
    "EXPAND",
    *("RATINGS_FORMAT", "RATINGS_COLUMNS", "RATINGS_HEADER", "RATINGS_DUPLICATES"),
    *("RATINGS_POSITIVE_FROM", "RATINGS_HELD_OUT", "RATINGS_HELD_OUT_SEED"),
)
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
CLIENT_TIMEOUT_S = 10
PROBE_TIMEOUT_S = 120


def engine(
    env: Mapping[str, str], gpu: dict[str, Any], info: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The arguments of Docker's ``containers.create`` that every step gets.

    Args:
        env: the caller's environment.
        gpu: what ``gpu_request`` found.
        info: what ``docker info`` says.
    """
    mountable(CHECKOUT, "")
    mounts = [f"{mountable(data_dir(env), 'DATA_DIR=')}:/data"]
    mirror = local_mirror(env)
    if mirror is not None:
        mountable(mirror, "MIRROR=")
        mounts.append(f"{mirror}:/mirror:ro")
    ratings = own_ratings(env)
    if ratings is not None:
        mounts.append(f"{ratings}:{in_container(env)}:ro")
    return {
        "environment": environment(env, gpu),
        "volumes": mounts,
        "labels": {DATA_LABEL: str(data_dir(env)), POPPER_LABEL: process_identity(os.getpid())},
        # Passes SIGTERM on to the step and reaps its orphans.
        "init": True,
        **Kind.of(info or {}).options,
        **{key: value for key, value in gpu.items() if key != "environment"},
    }


def environment(env: Mapping[str, str], gpu: Mapping[str, Any]) -> dict[str, str]:
    """The environment of every step: parameters, and what a container cannot see of its host."""
    found = {name: env[name] for name in (*HANDED_ON, *PROXIES) if env.get(name)}
    if preset(env, gpu):
        found["PRESET"] = preset(env, gpu)
    found["TRAINBENCH_DATA_DIR"] = "/data"
    found["TRAINBENCH_HOST_DATA_DIR"] = str(data_dir(env))
    for name, option in (("SETTINGS", "SET"), ("NOTE", "NOTE"), ("TAGS", "TAGS")):
        if env.get(name):
            found[f"TRAINBENCH_{option}"] = env[name]
    if env.get("MIRROR"):
        found["MIRROR"] = "file:///mirror" if local_mirror(env) else env["MIRROR"]
    ratings = own_ratings(env)
    if ratings is not None:
        # Every step has to know the name; the download alone reads the file.
        found.update({"RATINGS": in_container(env), "DATASET": env.get("DATASET") or "own"})
    found.update(git_state())
    found.update(gpu.get("environment", {}))
    return found


def preset(env: Mapping[str, str], gpu: Mapping[str, Any]) -> str:
    """The preset asked for, else the one that suits the machine; empty: the dataset chooses."""
    by_dataset = env.get("DATASET") or env.get("RATINGS")
    return env.get("PRESET") or ("" if by_dataset else "mlperf" if gpu else "quick")


def mountable(path: Path, name: str) -> Path:
    """``path``, unless Docker would split it: a mount is written ``HERE:THERE:MODE``."""
    if ":" in str(path):
        stop(f"{name}{path}: has a colon, which Docker cannot mount; choose another folder", code=2)
    return path


def data_dir(env: Mapping[str, str]) -> Path:
    """The data volume's folder on this machine."""
    return (CHECKOUT / Path(env.get("DATA_DIR") or "data").expanduser()).resolve()


def local_mirror(env: Mapping[str, str]) -> Path | None:
    """The folder that MIRROR names, or ``None`` where MIRROR is a URL or not set."""
    name = env.get("MIRROR", "").removeprefix("file://")
    if not name or "://" in name:
        return None
    folder = (CHECKOUT / Path(name).expanduser()).resolve()
    if not folder.is_dir():
        # An address without its scheme may hold a password.
        shown = name.rpartition("@")[2].partition("?")[0]
        stop(f"MIRROR={shown}: no such folder; wanted a URL or a folder with the archive", code=2)
    return folder


def own_ratings(env: Mapping[str, str]) -> Path | None:
    """The file that RATINGS names, or ``None`` where it is not set."""
    name = env.get("RATINGS")
    if not name:
        return None
    file = (CHECKOUT / Path(name).expanduser()).resolve()
    if not file.is_file():
        stop(f"RATINGS={name}: no such file; wanted a CSV, TSV or Parquet file", code=2)
    if ":" in f"{file}{name}":
        stop(f"RATINGS={file}: Docker mounts no path with a colon; rename or move it", code=2)
    return file


def in_container(env: Mapping[str, str]) -> str:
    """What the steps call the file of RATINGS; its name tells the format."""
    return f"/ratings/{Path(env['RATINGS']).name}"


def is_parquet(env: Mapping[str, str]) -> bool:
    """Whether the file of RATINGS is, or is said to be, Parquet."""
    named = env.get("RATINGS_FORMAT") or Path(env["RATINGS"]).suffix.lstrip(".")
    return named.lower() == "parquet"


def caller(env: Mapping[str, str]) -> tuple[int, int]:
    """Whose files the steps write: the user's, also under sudo."""
    if os.getuid() == 0 and env.get("SUDO_UID", "").isdigit():
        return int(env["SUDO_UID"]), int(env.get("SUDO_GID", env["SUDO_UID"]))
    return os.getuid(), os.getgid()


def gpu_request(info: Mapping[str, Any]) -> dict[str, Any]:
    """How this engine gives its GPUs to a container; empty where it cannot or has none.

    An engine may offer the NVIDIA runtime, the device request of ``--gpus``, or CDI.
    """
    if not info or not has_nvidia_gpu():
        return {}
    if "nvidia" in (info.get("Runtimes") or {}):
        return nvidia_runtime()
    # An engine offers --gpus where it found the toolkit's hook; docker info does not tell.
    if shutil.which("nvidia-container-runtime-hook"):
        return {"device_requests": [_device_request(count=-1, capabilities=[["gpu"]])]}
    if offers_cdi(info):
        return {"device_requests": [_device_request(driver="cdi", device_ids=[f"{CDI_GPU}=all"])]}
    return {}


def nvidia_runtime() -> dict[str, Any]:
    """The request for all GPUs through the engine's NVIDIA runtime."""
    visible = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    return {"runtime": "nvidia", "environment": visible}


def offers_cdi(info: Mapping[str, Any]) -> bool:
    """Whether the engine knows the NVIDIA GPUs by their CDI names."""
    discovered = info.get("DiscoveredDevices")
    if discovered:
        return any(str(device.get("ID", "")).startswith(CDI_GPU) for device in discovered)
    specs = [spec for folder in info.get("CDISpecDirs") or () for spec in Path(folder).glob("*")]
    return any(spec.suffix in (".yaml", ".json") and CDI_GPU in spec.read_text() for spec in specs)


def has_nvidia_gpu() -> bool:
    """Whether a driver has put an NVIDIA GPU into this machine's device tree."""
    return any(any(Path("/").glob(pattern.lstrip("/"))) for pattern in NVIDIA_NODES)


def docker_info() -> dict[str, Any]:
    """What ``docker info`` says; empty when no engine answers or the SDK is not installed."""
    try:
        import docker
    except ImportError:
        return {}
    try:
        client = docker.from_env(timeout=CLIENT_TIMEOUT_S)
        try:
            return dict(client.info())
        finally:
            client.close()
    except (docker.errors.DockerException, OSError, ValueError):
        return {}


def chosen_engine() -> Endpoint:
    """The engine that this user means; every client of this process asks it."""
    try:
        return choose(os.environ)
    except MachineError as error:
        stop(str(error), code=error.exit_code)


def probe_engine(info: Mapping[str, Any]) -> str | None:
    """Stop where no step could work in this engine; else the socket that training gets."""
    try:
        import docker
    except ImportError:
        stop("no Docker SDK in this Python; scripts/run.sh makes .venv-popper with it", code=6)
    if not info:
        stop(ENDPOINT.silence, code=6)
    client = docker.from_env(timeout=PROBE_TIMEOUT_S)
    try:
        found = probe(client, ENDPOINT, info, data=data_dir(os.environ), checkout=CHECKOUT)
    except MachineError as error:
        stop(str(error), code=error.exit_code)
    finally:
        client.close()
    for note in found.notes:
        print(f"settings.py: {note}", file=sys.stderr)
    return found.socket


def git_state() -> dict[str, str]:
    """Revision of the code and whether it has uncommitted changes; the images have no git."""
    try:
        top, _, revision = _git("rev-parse", "--show-toplevel", "HEAD").strip().partition("\n")
        if not os.path.samefile(top, CHECKOUT):
            return {}  # A workflow inside of another project, whose revision is not this code's.
        dirty = bool(_git("status", "--porcelain").strip())
    except (OSError, subprocess.SubprocessError):
        return {}
    return {
        "TRAINBENCH_GIT_REVISION": revision,
        "TRAINBENCH_GIT_DIRTY": "1" if dirty else "0",
    }


def warn_of_foreign_checkout() -> None:
    """Say that git hides the revision of a checkout that belongs to another user."""
    try:
        _git("rev-parse", "HEAD")
    except subprocess.CalledProcessError as error:
        if "dubious ownership" in error.stderr and "TRAINBENCH_FOREIGN" not in os.environ:
            print(
                f"settings.py: {CHECKOUT} belongs to another user, so results will not name their "
                f"code; run: git config --global --add safe.directory '{CHECKOUT}'",
                file=sys.stderr,
            )
    except (OSError, subprocess.SubprocessError):
        pass


def process_identity(pid: int) -> str:
    """``PID START BOOT:NAMESPACE``, which no later process has; empty where it cannot be read."""
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{pid} {started} {boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def lives(identity: str) -> bool | None:
    """Whether the process of an identity still runs; ``None`` where that cannot be seen."""
    here = process_identity(os.getpid()).split()
    asked = identity.split()
    if len(asked) != 3 or asked[2:] != here[2:]:
        return None
    return process_identity(int(asked[0])) == identity


def prepare(env: Mapping[str, str], gpu: Mapping[str, Any]) -> None:
    """Make the data folder, tell the Dockerfiles what is needed and print what was chosen."""
    make_data_dir(env)
    warn_of_foreign_checkout()
    mark(ACCELERATOR, "cuda" if gpu else "")
    if env.get("RATINGS"):
        mark(FORMATS, "parquet" if is_parquet(env) else "")
    reason = "as asked" if env.get("PRESET") else "GPU found" if gpu else "no usable GPU"
    named = preset(env, gpu)
    chosen = f"preset {named} ({reason})" if named else "preset of the dataset"
    print(f"{chosen}, data in {data_dir(env)}", file=sys.stderr)


def make_data_dir(env: Mapping[str, str]) -> None:
    """Make the data folder for its owner: Docker would make it for root."""
    make_folder(data_dir(env), env, name="DATA_DIR")


def make_folder(folder: Path, env: Mapping[str, str], *, name: str) -> None:
    """Make ``folder``, which ``name`` asked for, and those above it for the caller."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            os.chown(path, *caller(env))
    except OSError as error:
        stop(f"{name}={folder}: {error.strerror}; choose another folder", code=6)


def mark(file: Path, wanted: str) -> None:
    """Have ``file`` say ``wanted`` to a Dockerfile; an unchanged file keeps the built image."""
    found = file.read_text().strip() if file.exists() else ""
    if found == wanted:
        return
    try:
        if wanted:
            file.write_text(wanted + "\n")
        else:
            file.unlink()
    except OSError as error:
        stop(f"{file}: {error.strerror}; use a clone of your own", code=6)


def require_gpu(env: Mapping[str, str], info: Mapping[str, Any], gpu: Mapping[str, Any]) -> None:
    """Stop where REQUIRE_GPU asks for a GPU and none can be used."""
    if gpu or env.get("REQUIRE_GPU", "0").lower() in ("", "0", "no", "false"):
        return
    if not info:
        found = "Docker does not answer"
    elif has_nvidia_gpu():
        found = "Docker cannot pass on the NVIDIA GPU of this machine"
    else:
        found = "this machine has no NVIDIA GPU with a loaded driver"
    stop(f"REQUIRE_GPU=1: {found}; run sudo ./install_cuda_docker.sh, or unset it", code=6)


def occupy_checkout() -> None:
    """Keep a second Popper out of this checkout: it would remove the containers of the first."""
    handle = os.open(__file__, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stop(f"{CHECKOUT}: a run is going on here; wait for it, or use another clone", code=6)


def end_orphans(env: Mapping[str, str]) -> None:
    """End the containers that work on the data folder for a Popper that is gone.

    A Popper that was killed leaves its step running, which holds the data folder. The container of
    a Popper that lives, or of one that cannot be looked for from here, is named instead.
    """
    from popper.runner_docker import DockerRunner

    for container in _containers(DockerRunner, f"{DATA_LABEL}={data_dir(env)}"):
        if container.status == "exited":
            continue
        popper = container.labels.get(POPPER_LABEL, "")
        alive = lives(popper)
        if alive is False:
            print(f"{container.name}: its Popper is gone; ending it", file=sys.stderr)
            container.stop()
            container.remove(force=True)
            continue
        pid = popper.partition(" ")[0]
        whose = f"Popper, process {pid}," if alive else "a Popper that is not of this machine"
        end = f"kill {pid}" if alive else f"docker rm -f {container.name}"
        stop(
            f"DATA_DIR={data_dir(env)}: container {container.name} of {whose} works on it; wait "
            f"for it, end it ({end}), or choose another folder",
            code=6,
        )


def confine_steps(engine_socket: str | None) -> None:
    """Give no step but training the engine's socket, and none the checkout for writing.

    Whoever holds the socket is root on the host; whoever changes the code is the next step. Popper
    mounts the socket of the default engine, whichever one runs the steps.
    """
    from popper.runner_docker import DockerRunner

    merge = DockerRunner.update_engine_config

    def confined(container: dict[str, Any], options: Mapping[str, Any]) -> None:
        workspace, _ = container["volumes"]
        trains = container["name"].startswith(f"popper_{HOLDS_ENGINE}_")
        socket = [f"{engine_socket}:{STEP_SOCKET}"] if trains and engine_socket else []
        container["volumes"] = [f"{workspace}:ro", *socket]
        merge(container, options)

    DockerRunner.update_engine_config = staticmethod(confined)


def leave_no_container(env: Mapping[str, str]) -> None:
    """End Popper on a signal with its documented code, and remove the containers of its steps.

    Popper 2.5.0 exits 0 on Ctrl-C, leaves the step running on SIGTERM, and keeps every container.
    """
    from popper.runner import WorkflowRunner
    from popper.runner_docker import DockerRunner

    own = process_identity(os.getpid())

    def interrupted(number: int, frame: Any) -> None:
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)
        with contextlib.suppress(SystemExit):
            WorkflowRunner.signal_handler(number, frame)
        sys.exit(130)

    def remove() -> None:
        for container in _containers(DockerRunner, f"{POPPER_LABEL}={own}"):
            try:
                container.remove(force=True)
            except Exception as error:  # noqa: BLE001  the exit code is decided by now
                print(f"container {container.name} is left behind: {error}", file=sys.stderr)

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup is the user's word.
        signal.signal(signal.SIGHUP, interrupted)
    if env.get("KEEP_CONTAINERS") != "1" and "--reuse" not in sys.argv:
        atexit.register(remove)


def _containers(runner: Any, label: str) -> list[Any]:
    """The containers with a label, in whatever state; none where the engine does not answer."""
    import docker

    try:
        client = runner.d or docker.from_env(timeout=CLIENT_TIMEOUT_S)
        return list(client.containers.list(all=True, filters={"label": label}))
    except (docker.errors.DockerException, OSError):
        return []


def stop(message: str, *, code: int) -> NoReturn:
    """End with one line and a documented exit code."""
    print(f"settings.py: {message}", file=sys.stderr)
    raise SystemExit(code)


def _device_request(**fields: Any) -> Any:
    from docker.types import DeviceRequest

    return DeviceRequest(**fields)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def first_import() -> bool:
    """Whether this process has not yet imported this file."""
    mark = f"{os.getpid()}:{__file__}"
    if os.environ.get("TRAINBENCH_SETTINGS") == mark:
        return False
    os.environ["TRAINBENCH_SETTINGS"] = mark
    return True


ENDPOINT = chosen_engine()
_INFO = docker_info()
_GPU = gpu_request(_INFO)
require_gpu(os.environ, _INFO, _GPU)
ENGINE = engine(os.environ, _GPU, _INFO)

if first_import():
    under_popper = "popper.runner" in sys.modules
    engine_socket: str | None = None
    if under_popper and "--dry-run" not in sys.argv:
        occupy_checkout()
        end_orphans(os.environ)
    prepare(os.environ, _GPU)
    if under_popper:
        if "--dry-run" not in sys.argv:
            engine_socket = probe_engine(_INFO)
        same_bytes()
        confine_steps(engine_socket)
        leave_no_container(os.environ)

if __name__ == "__main__":
    if "--probe" in sys.argv[1:]:
        training = "may" if probe_engine(_INFO) else "will not"
        print(f"{ENDPOINT}: sees this machine as you do; training {training} drop the page cache")
        sys.exit(0)
    sys.path.insert(0, str(CHECKOUT / "scripts"))
    import popper_twin

    popper_twin.main(sys.modules[__name__], ENGINE, CHECKOUT / "wf.yml", sys.argv[1:])
