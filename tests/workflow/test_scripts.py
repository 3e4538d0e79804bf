"""The scripts: clean, helpful, truthful about how a run ended, and free of registry names."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from checkout import CHECKOUT
from processes import PATIENCE_S, wait_until

SCRIPTS = ["install_cuda_docker.sh", *(f"scripts/{p.name}" for p in CHECKOUT.glob("scripts/*.sh"))]
COMMANDS = [name for name in SCRIPTS if name != "scripts/environment.sh"]
# Loopback, and the one vendor that a GPU machine has to fetch its toolkit from.
KNOWN_HOSTS = {"127.0.0.1", "localhost", "nvidia.github.io"}


def test_the_scripts_are_shellcheck_clean() -> None:
    shellcheck = shutil.which("shellcheck", path=CHECKOUT / ".venv" / "bin") or "shellcheck"
    done = subprocess.run(
        [shellcheck, "-x", *SCRIPTS, ".ci/run"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_script_explains_itself(name: str) -> None:
    done = subprocess.run(
        ["bash", CHECKOUT / name, "--help"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    for part in ("Usage:", "xit codes:", "Example:"):
        assert part in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_script_can_be_run(name: str) -> None:
    assert os.access(CHECKOUT / name, os.X_OK)


@pytest.mark.parametrize(
    "given",
    [
        {"SETTINGS": "max_epochs=1 no_such=2"},
        {"TRAINBENCH_SET": "no_such=2"},
        {"SETTINGS": "no_such=2", "TRAINBENCH_SET": "max_epochs=1"},
    ],
)
def test_settings_reach_the_trials_of_an_array(tmp_path: Path, given: dict[str, str]) -> None:
    """Also where nobody calls submit.sh: a setting that is none is refused by its name."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("SETTINGS", "TRAINBENCH_SET")}
    task = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_JOB_ID": "7"}
    done = subprocess.run(
        ["bash", CHECKOUT / "examples" / "slurm" / "trials.sbatch"],
        env={**inherited, **task, "DATA_DIR": str(tmp_path), "PYTHON": sys.executable, **given},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, "no_such" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("has_ensurepip", "said", "apt"),
    [(True, "-m venv failed; see what it said: Read-only file system", False), (False, "", True)],
)
def test_apt_is_called_for_a_missing_package_alone(
    tmp_path: Path, has_ensurepip: bool, said: str, apt: bool
) -> None:
    python = f"""#!/bin/sh
case "$*" in
  *ensurepip*) exit {0 if has_ensurepip else 1} ;;
  *version_info*) echo python3.11-venv ;;
  *venv*) echo 'Read-only file system'; exit 1 ;;
esac"""
    programs = {"python": python, "apt-get": f'#!/bin/sh\necho "$*" >> {tmp_path}/apt'}
    for name, text in {**programs, "sudo": '#!/bin/sh\n"$@"'}.items():
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", f". scripts/environment.sh; make_venv {tmp_path}/python {tmp_path}/venv"],
        cwd=CHECKOUT,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6
    assert said in done.stderr
    assert (tmp_path / "apt").exists() == apt
    if apt:
        assert "python3.11-venv" in (tmp_path / "apt").read_text()


def test_no_file_names_a_registry_host() -> None:
    paths = [CHECKOUT / name for name in (*SCRIPTS, ".ci/run", "requirements.lock", "settings.py")]
    paths += [path for path in (CHECKOUT / "containers").rglob("*") if path.is_file()]
    paths += list((CHECKOUT / "scripts").glob("requirements*"))
    for path in paths:
        hosts = set(re.findall(r"[a-z]://([\w.-]+\.[\w.-]+|localhost)", path.read_text()))
        assert hosts <= KNOWN_HOSTS, path


# --- run.sh with a fake Docker and a fake Popper

DOCKER = """case "$1" in
  ps) [ -e $STATE/containers ] && cat $STATE/containers ;;
  inspect) cat $STATE/code ;;
  rm) shift; echo "rm $*" >> $STATE/calls; rm -f $STATE/containers ;;
esac
exit 0"""

# Leaves a container as the real one does with KEEP_CONTAINERS=1; HANGS until it is interrupted.
POPPER = """echo "popper $*" >> $STATE/calls
pwd > $STATE/folder
trap 'echo "popper got TERM" >> $STATE/calls; exit 130' TERM
[ -n "$REFUSED" ] && exit 6
echo abc123 > $STATE/containers
while [ -n "$HANGS" ]; do sleep 0.05; done
[ "$(cat $STATE/code)" = 0 ] || exit 1"""

PYTHON = """case "$1" in
  -) cat > /dev/null ;;
  -c) echo 01234567 ;;
  scripts/build_images.py) echo "build" >> $STATE/calls ;;
esac
exit 0"""

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "code").write_text("0")
    return folder


@pytest.fixture
def run(tmp_path: Path, state: Path) -> Run:
    """Starts run.sh in a copy of the checkout."""
    clone = tmp_path / "clone"
    shutil.copytree(CHECKOUT / "scripts", clone / "scripts")
    (clone / "image_classification").mkdir()
    fakes = {
        "bin/docker": DOCKER,
        "clone/.venv/bin/popper": POPPER,
        "clone/.venv/bin/python": PYTHON,
    }
    for name, body in fakes.items():
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)
    (clone / ".venv" / ".installed").touch()

    def start(*options: str, **env: str) -> subprocess.Popen[str]:
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            [clone / "scripts" / "run.sh", *options],
            env={"PATH": path, "STATE": str(state), "DATA_DIR": str(tmp_path / "data"), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def calls(state: Path) -> list[str]:
    path = state / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_run_builds_the_images_and_runs_the_literal_line(run: Run, state: Path) -> None:
    process = run("train", "--quiet")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert calls(state)[:2] == ["build", "popper run -f wf.yml -c settings.py train --quiet"]


def test_popper_has_its_own_environment_beside_one_whose_setup_was_interrupted(
    run: Run, state: Path, tmp_path: Path
) -> None:
    half, own = tmp_path / "clone" / ".venv", tmp_path / "clone" / ".venv-popper"
    shutil.copytree(half, own)
    (half / ".installed").unlink()
    (half / "bin" / "popper").write_text("#!/bin/bash\nexit 99\n")
    wanted = (CHECKOUT / "scripts" / "requirements-popper.txt").read_bytes()
    (own / ".installed").write_text(f"{hashlib.sha256(wanted).hexdigest()}  -\n")
    process = run("--dry-run")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert calls(state) == ["popper run -f wf.yml -c settings.py --dry-run"]


@pytest.mark.parametrize("options", [["--quiet"], ["--dry-run"]])
def test_run_with_images_runs_the_same_line_in_the_other_workflows_folder(
    run: Run, state: Path, options: list[str]
) -> None:
    process = run("--images", *options)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert f"popper run -f wf.yml -c settings.py {options[0]}" in calls(state)
    assert Path((state / "folder").read_text().strip()).name == "image_classification"


def test_a_dry_run_is_only_poppers(run: Run, state: Path) -> None:
    process = run("--dry-run")
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert calls(state) == ["popper run -f wf.yml -c settings.py --dry-run"]


@pytest.mark.parametrize("code", [3, 4, 5, 6])
def test_the_exit_code_is_the_failed_steps_own(run: Run, state: Path, code: int) -> None:
    (state / "code").write_text(str(code))
    process = run()
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, output
    assert calls(state)[-1] == "rm -f abc123"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_popper_and_leaves_no_container(
    run: Run, state: Path, number: signal.Signals
) -> None:
    process = run(HANGS="1")
    wait_until((state / "containers").exists)
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, output
    assert calls(state)[-2:] == ["popper got TERM", "rm -f abc123"]


def test_the_containers_of_another_run_are_left_alone(run: Run, state: Path) -> None:
    (state / "containers").write_text("of-another-run\n")
    process = run(REFUSED="1")
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 6
    assert not any(call.startswith("rm") for call in calls(state))


def test_run_says_where_the_report_is(run: Run, tmp_path: Path) -> None:
    report = tmp_path / "data" / "runs" / "first" / "report" / "report.html"
    report.parent.mkdir(parents=True)
    report.touch()
    os.utime(report, (time.time() + 60, time.time() + 60))
    (tmp_path / "data" / "runs" / "latest").symlink_to("first")
    output, _ = run().communicate(timeout=PATIENCE_S)
    assert f"report: {report}" in output


# --- environments: Pythons that are fakes

FAKE_PYTHON = """case "$*" in
  --version) echo "Python 3.$MINOR.1" ;;
  *sys.version_info*) limit="${2##*(3, }"; [ $MINOR -le ${limit%%)*} ] ;;
  *"import pip"*) [ ! -e "$(dirname $0)/../upgraded" ] ;;
  "-m venv "*) mkdir -p $3/bin; sed "s/^MINOR=.*/MINOR=$MINOR/" "$0" > $3/bin/python
               chmod +x $3/bin/python ;;
  *"pip install"*)
    echo "$0 3.$MINOR: $*" >> $STATE/calls
    for last; do :; done
    for name in $WITHOUT; do
      grep -q "^$name==" "$last" && [ $MINOR -gt 13 ] &&
        echo "ERROR: No matching distribution found for $name==1" >&2 && exit 1
    done ;;
esac
exit $?"""


@pytest.fixture
def setup(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Makes the environment ``made`` on a machine that has these Pythons: name to minor."""
    (tmp_path / "requirements.txt").write_text(
        "".join(f"{name}==1 \\\n    --hash=sha256:00\n" for name in ("big", "small", "other"))
    )

    def run(pythons: dict[str, int], without: str = "") -> subprocess.CompletedProcess[str]:
        fakes = tmp_path / "bin"
        shutil.rmtree(fakes, ignore_errors=True)
        fakes.mkdir()
        for name, minor in pythons.items():
            (fakes / name).write_text(f"#!/bin/bash\nMINOR={minor}\n{FAKE_PYTHON}\n")
            (fakes / name).chmod(0o755)
        programs = ("bash", "awk", "cat", "chmod", "cp", "date", "dirname", "grep", "mkdir")
        for name in (*programs, "mktemp", "mv", "rm", "sed", "sha256sum", "uname"):
            found = shutil.which(name)
            assert found
            (fakes / name).symlink_to(found)
        script = f"source {CHECKOUT}/scripts/environment.sh; make_environment made"
        return subprocess.run(
            [fakes / "bash", "-euc", f"{script} requirements.txt 13"],
            cwd=tmp_path,
            env={"PATH": str(fakes), "STATE": str(tmp_path), "WITHOUT": without},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_python_with_all_wheels_is_taken_before_a_newer_one(
    setup: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert setup({"python3": 14, "python3.12": 12}).returncode == 0
    assert " 3.12: " in calls(tmp_path)[0]


def test_a_newer_python_is_tried_where_there_is_no_other(
    setup: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert setup({"python3": 14}).returncode == 0
    assert "--only-binary :all:" in calls(tmp_path)[0]


def test_packages_without_a_wheel_are_named_and_the_environment_is_not_left(
    setup: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = setup({"python3": 14}, without="big other")
    assert done.returncode == 6
    assert "error: Python 3.14.1 on" in done.stderr
    assert "no wheel of big==1 other==1; install a Python of 3.10 to 3.13" in done.stderr
    assert not (tmp_path / "made").exists()


def test_after_an_upgrade_of_the_systems_python_the_environment_is_made_anew(
    setup: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    for _ in range(2):
        assert setup({"python3": 11}).returncode == 0
    assert len(calls(tmp_path)) == 1
    (tmp_path / "made" / "upgraded").touch()
    assert setup({"python3": 13}).returncode == 0
    assert " 3.13: " in calls(tmp_path)[1]


def test_a_stopped_registry_leaves_the_other_settings_of_docker(tmp_path: Path) -> None:
    """An empty list of mirrors stays: without one the daemon keeps its mirrors on a reload."""
    for name, body in {"id": "echo 0", "docker": "exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    settings = tmp_path / "daemon.json"
    ours, other = "http://127.0.0.1:5999", "http://127.0.0.1:6000"
    for before, after in (([ours, other], [other]), ([ours], [])):
        settings.write_text(json.dumps({"debug": True, "registry-mirrors": before}))
        done = subprocess.run(
            ["bash", CHECKOUT / "scripts/local_registry.sh", "--stop"],
            env={
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "DAEMON_JSON": str(settings),
                "REGISTRY_HOME": str(tmp_path),
                "REGISTRY_PORT": "5999",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(settings.read_text()) == {"debug": True, "registry-mirrors": after}


def test_no_password_gets_into_the_base_image_of_a_site(tmp_path: Path) -> None:
    for name in ("scripts/local_registry.sh", "src/trainbench/display/secrets.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = (CHECKOUT / name).read_text()
        (tmp_path / name).write_text(text.removesuffix('main "$@"\n'))
    (tmp_path / "apt-config").write_text(
        "#!/bin/sh\necho 'Acquire::http::Proxy \"http://alice:S3CRET@proxy:3128/\";'\n"
    )
    (tmp_path / "apt-config").chmod(0o755)
    (tmp_path / "root/etc/apt/apt.conf.d").mkdir(parents=True)
    script = tmp_path / "scripts/local_registry.sh"
    done = subprocess.run(
        ["bash", "-c", f". {script}; write_sources {tmp_path}/root; image_settings; plan"],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "http_proxy": "http://alice:S3CRET@proxy:3128",
            "https_proxy": "alice:S3CRET@proxy:3128",
            "no_proxy": "localhost,10.0.0.0/8",
            "PIP_INDEX_URL": "https://bob:S3%43RET@index/simple?token=S3CRET",
            "PIP_EXTRA_INDEX_URL": "https://S3CRET@other/simple",
            "PIP_TRUSTED_HOST": "index",
            "DEBIAN_MIRROR": "https://alice:S3CRET@mirror/debian",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    written = "".join(p.read_text() for p in (tmp_path / "root").rglob("*") if p.is_file())
    assert "S3" not in done.stdout + done.stderr + written
    assert "deb https://mirror/debian bookworm main" in written
    assert 'Acquire::http::Proxy "http://proxy:3128/";' in written
    for line in (
        "http_proxy=http://proxy:3128",
        "https_proxy=proxy:3128",
        "no_proxy=localhost,10.0.0.0/8",
        "PIP_INDEX_URL=https://index/simple",
        "PIP_EXTRA_INDEX_URL=https://other/simple",
        "would make debian:bookworm-slim from https://mirror/debian",
    ):
        assert line in done.stdout.splitlines()
