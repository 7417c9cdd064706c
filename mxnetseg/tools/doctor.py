"""``mxnetseg doctor``: report what is installed, what is missing, and the command that fixes it.

The command must work on machines where nothing else does. It imports only the standard library, and tries MXNet,
OpenCV and the other packages in separate processes, because a broken library may crash its process. The result is a
:class:`Machine`; :func:`diagnose` is a pure function of it.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from .._cuda import (
    CUDA_LIBRARIES,
    DRIVER,
    GPU_DISTRIBUTIONS,
    USABLE,
    can_load,
    computes_on,
    has_distribution,
    missing_cuda_libraries,
)
from .._memory import total_memory
from .._processor import cpu_flags
from ._installed import (
    BACKENDS,
    CPU_BUILDS,
    NEEDED,
    OPENCV_WHEELS,
    OPTIONAL,
    Conflict,
    Finding,
    check_installed,
    find_conflicts,
    install_command,
    numpy_mismatch,
)

# shared library, as the loader's message names it -> how to install it
_HEADLESS = ("pip uninstall -y opencv-python && pip install 'opencv-python-headless>=4.5,<4.12'"
             "\n(or, as root: apt-get install {})")
_LIBRARY_FIXES = {
    "libGL.so": _HEADLESS.format("libgl1"),
    "libgthread-2.0.so": _HEADLESS.format("libglib2.0-0"),
    "libglib-2.0.so": _HEADLESS.format("libglib2.0-0"),
    "libgomp.so": "apt-get install libgomp1   (as root)",
    "libquadmath.so": "apt-get install libquadmath0   (as root)",
    "libgfortran.so": "apt-get install libgfortran5   (as root)",
    "libcuda.so": "install NVIDIA's driver, or use the CPU build: pip uninstall -y mxnet-cu112 && "
                  f"{install_command('mxnetseg-mxnet').replace('install', 'install --force-reinstall --no-deps', 1)}",
}
_RELEVANT_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
_PROBE_SECONDS = 120
_NEEDED_MODULES = {module for module, _ in NEEDED.values()}


@dataclass
class Trial:
    """Result of importing a module in a separate process."""

    ok: bool
    facts: dict[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass
class Machine:
    """Properties of a machine and of its installed packages, as plain values.

    Attributes:
        python: version, as numbers.
        versions: pip name -> installed version, for the relevant packages that are installed.
        trials: module -> result of its import.
        driver: True if NVIDIA's driver library can be loaded.
        missing_cuda: CUDA libraries that the GPU build needs and that cannot be loaded.
        libmxnet: ``'cpu'`` or ``'gpu'``: the build that ``mxnet/libmxnet.so`` comes from, if both builds were installed
            into one folder; otherwise None.
        conflicts: violated requirements of installed distributions.
    """

    python: tuple[int, ...]
    executable: str
    platform: str
    cores: int
    memory_gib: float | None
    shm_gib: float | None
    cpu_flags: list[str]
    versions: dict[str, str]
    trials: dict[str, Trial]
    driver: bool
    missing_cuda: list[str]
    libmxnet: str | None
    conflicts: list[Conflict] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Examine the machine and print the result; return 1 if a necessary part is missing."""
    machine = examine()
    findings = diagnose(machine)
    healthy = not any(f.needed for f in findings)
    if args.json:
        print(json.dumps({"mxnetseg": __version__, "healthy": healthy, "machine": asdict(machine),
                          "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        print(report(machine, findings))
    return 0 if healthy else 1


# ---- examination ---------------------------------------------------------------------------


def examine() -> Machine:
    """Examine this machine. This takes some seconds: each large package is imported in its own process."""
    backends = [name for names in BACKENDS.values() for name in names[1:]]
    names = [*NEEDED, *OPTIONAL, *OPENCV_WHEELS, *GPU_DISTRIBUTIONS, "setuptools", *backends]
    driver = can_load(DRIVER)
    gpu_build = any(map(has_distribution, GPU_DISTRIBUTIONS))
    memory, flags = total_memory(), cpu_flags()
    return Machine(
        python=tuple(sys.version_info[:3]),
        executable=sys.executable,
        platform=platform.platform(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=None if memory is None else memory / 2**30,
        shm_gib=_shm_gib(),
        cpu_flags=[flag for flag in _RELEVANT_FLAGS if flag in flags],
        versions={name: metadata.version(name) for name in dict.fromkeys(names) if has_distribution(name)},
        trials={
            "numpy": try_import("numpy"),
            "mxnet": try_import("mxnet", _MXNET_FACTS),
            "gluoncv": try_import("gluoncv"),
            "cv2": try_import("cv2"),
            **{name: try_import(name, _DEVICES.get(name, "")) for name in dict.fromkeys(backends)
               if has_distribution(name)},
        },
        driver=driver,
        missing_cuda=missing_cuda_libraries() if gpu_build and driver else [],
        libmxnet=_libmxnet_in_place(),
        conflicts=find_conflicts(),
    )


_MXNET_FACTS = ("from mxnetseg._cuda import compute_capability\n"
                "features = m.runtime.Features()\n"
                "facts.update(gpus=m.context.num_gpus(), cuda=features.is_enabled('CUDA'),\n"
                "             onednn=features.is_enabled('MKLDNN'),\n"
                "             capabilities=[compute_capability(i) for i in range(m.context.num_gpus())])")


# backend -> code that adds its devices to the facts
_DEVICES = {
    "torch": "facts['devices'] = ['cpu', *(f'cuda:{i}' for i in range(m.cuda.device_count())),\n"
             "                    *['mps'] * m.backends.mps.is_available()]",
    "onnxruntime": "facts['devices'] = [p[:-len('ExecutionProvider')] for p in m.get_available_providers()\n"
                   "                    if 'Azure' not in p]",  # a service on the web
    "openvino": "facts['devices'] = m.Core().available_devices",
}


def try_import(module: str, more: str = "") -> Trial:
    """Import a module in a new process, after mxnetseg.

    Args:
        module: its name.
        more: Python code that adds to the dictionary ``facts``; the module is called ``m``.
    """
    code = (f"import json, mxnetseg\nimport {module} as m\nfacts = {{'file': m.__file__}}\n{more}\n"
            "print('\\n' + json.dumps(facts))")
    # the new process must find mxnetseg where this process found it, even if it is not installed
    home = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (home, os.environ.get("PYTHONPATH")) if p)
    try:
        done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, errors="replace", timeout=_PROBE_SECONDS,
                              env={**os.environ, "PYTHONPATH": path})
    except subprocess.TimeoutExpired:
        return Trial(False, error=f"the import did not end within {_PROBE_SECONDS} s")
    except OSError as error:
        return Trial(False, error=f"no process could be started: {error}")
    if done.returncode == 0:
        return Trial(True, json.loads(done.stdout.splitlines()[-1]))
    if done.returncode < 0:
        return Trial(False, error=f"the import crashed Python with signal {-done.returncode}")
    return Trial(False, error=_reason(done.stderr))


def _reason(stderr: str) -> str:
    """Return the line of a traceback that names the error: the last one that begins with an exception's name."""
    exception = re.compile(r"[A-Za-z_][\w.]*(Error|Problem|Exception)\b")
    lines = [line for line in stderr.splitlines() if exception.match(line)]
    return lines[-1] if lines else stderr.strip()[-300:]


def _libmxnet_in_place() -> str | None:
    """Return the build that ``mxnet/libmxnet.so`` comes from, if both builds were installed into one folder."""
    cpu = [name for name in CPU_BUILDS if has_distribution(name)]
    if not (cpu and has_distribution("mxnet-cu112")):
        return None
    for name, kind in ((cpu[0], "cpu"), ("mxnet-cu112", "gpu")):
        for file in metadata.files(name) or ():
            if file.as_posix() == "mxnet/libmxnet.so":
                path = Path(file.locate())
                if path.is_file() and path.stat().st_size == file.size:
                    return kind
    return None


def _shm_gib() -> float | None:
    try:
        shm = os.statvfs("/dev/shm")
    except (AttributeError, OSError):
        return None
    return shm.f_frsize * shm.f_blocks / 2**30


# ---- diagnosis -----------------------------------------------------------------------------


def diagnose(machine: Machine) -> list[Finding]:
    """List every problem of a machine, the necessary fixes first."""
    findings = [*check_installed(machine), *_gpu(machine), *_imports(machine)]
    by_fix: dict[str, Finding] = {}  # causes come before the failures that follow from them: report only the cause
    for finding in findings:
        by_fix.setdefault(finding.fix, finding)
    return sorted(by_fix.values(), key=lambda f: not f.needed)


def _imports(machine: Machine) -> list[Finding]:
    """List the packages that are installed and cannot be imported."""
    if int(machine.versions.get("numpy", "3").split(".")[0]) >= 3:
        return []  # every import fails for this one reason, which is reported elsewhere
    found: list[Finding] = []
    for module, trial in machine.trials.items():
        if trial.ok or f"No module named '{module}'" in trial.error:
            continue
        found.append(numpy_mismatch(machine, module, trial.error) or
                     Finding(f"{module} cannot be imported: {trial.error}", _fix_for(trial.error, module),
                             needed=module in _NEEDED_MODULES))
    return found


def _fix_for(error: str, module: str) -> str:
    """Return the command that fixes an import error."""
    for library, fix in _LIBRARY_FIXES.items():
        if library in error:
            return fix
    for library, package in CUDA_LIBRARIES.items():
        if library in error:
            return f"pip install {shlex.quote(package)}"
    commands = {imported: install_command(name) for name, (imported, _) in NEEDED.items()}
    missing = re.search(r"No module named '(\w+)", error)
    if missing:
        name = "setuptools" if missing[1] == "distutils" else missing[1]
        return commands.get(name, f"pip install {shlex.quote(name)}")
    command = commands.get(module, f"pip install {module}")
    return command.replace("install", "install --force-reinstall --no-deps", 1)


def _gpu(machine: Machine) -> list[Finding]:
    gpu_build = [name for name in GPU_DISTRIBUTIONS if name in machine.versions]
    found = []
    if machine.driver and not gpu_build:
        found.append(Finding("an NVIDIA driver is installed, but only the CPU build of MXNet",
                             "to use the GPUs, run in the checkout: pip install -e '.[cu112]'", needed=False))
    if gpu_build and not machine.driver:
        found.append(Finding(f"{gpu_build[0]} is installed, but NVIDIA's driver ({DRIVER}) cannot be loaded; "
                             "computation runs on the CPU", "install the driver if there is a GPU", needed=False))
    packages = dict.fromkeys(CUDA_LIBRARIES[library] for library in machine.missing_cuda)
    if packages:
        found.append(Finding(f"CUDA libraries are missing: {', '.join(machine.missing_cuda)}",
                             f"pip install {' '.join(map(shlex.quote, packages))}"))
    if gpu_build and machine.driver and machine.trials["mxnet"].facts.get("gpus") == 0:
        found.append(Finding("an NVIDIA driver is installed, but MXNet finds no GPU",
                             "check the output of nvidia-smi and the variable CUDA_VISIBLE_DEVICES", needed=False))
    for index, capability in enumerate(machine.trials["mxnet"].facts.get("capabilities", ())):
        if not computes_on(capability):
            found.append(Finding(f"GPU {index} has compute capability {_dots(capability)}, and MXNet 1.9.1 contains "
                                 "no code for it", f"use --ctx cpu, or a GPU {USABLE}", needed=False))
    return found


# ---- report --------------------------------------------------------------------------------


def report(machine: Machine, findings: list[Finding]) -> str:
    """Format the machine and its problems as text."""
    mxnet = machine.trials["mxnet"]
    rows = [
        ("mxnetseg", __version__),
        ("python", f"{_dots(machine.python)}  {machine.executable}"),
        ("platform", machine.platform),
        ("cores", str(machine.cores)),
        ("memory", _gib(machine.memory_gib)),
        ("/dev/shm", _gib(machine.shm_gib)),
        ("cpu flags", " ".join(machine.cpu_flags) or "none of those that matter here"),
        ("gpus", str(mxnet.facts["gpus"]) if mxnet.ok else "unknown, mxnet cannot be imported"),
        ("nvidia driver", "yes" if machine.driver else "no"),
        ("mxnet build", _build(mxnet)),
        *((f"backend {name}", _backend(name, machine)) for name in ("mxnet", *BACKENDS)),
        *((name, version) for name, version in machine.versions.items()),
        *((name, f"not installed (needed for: {use})") for name, use in OPTIONAL.items()
          if name not in machine.versions),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    for finding in findings:
        fix = finding.fix.replace("\n", "\n" + " " * 9)
        lines += ["", f"{'problem' if finding.needed else 'note'}: {finding.what}", f"  fix:   {fix}"]
    needed = sum(f.needed for f in findings)
    verdict = f"problems to fix: {needed}" if needed else "everything that mxnetseg needs is installed"
    return "\n".join([*lines, "", verdict])


def _backend(name: str, machine: Machine) -> str:
    """Return version and devices of a backend, or what is missing."""
    if name == "mxnet":
        mxnet = machine.trials["mxnet"]
        version = next((machine.versions[p] for p in (*CPU_BUILDS, *GPU_DISTRIBUTIONS) if p in machine.versions), "")
        devices = ["cpu", *map(str, range(mxnet.facts.get("gpus", 0)))]
        if not version and not mxnet.ok:
            return f"not installed ({install_command('mxnetseg-mxnet')})"
        return f"{version}: {', '.join(devices)}" if mxnet.ok else f"not usable: {mxnet.error}"
    extra, *names = BACKENDS[name]
    absent = [package for package in names if package not in machine.versions]
    if absent:
        return f"not installed: {', '.join(absent)} (pip install 'mxnetseg[{extra}]')"
    failed = [machine.trials[package].error for package in names if not machine.trials[package].ok]
    if failed:
        return f"not usable: {failed[0]}"
    return f"{machine.versions[names[0]]}: {', '.join(machine.trials[names[0]].facts.get('devices', ()))}"


def _build(mxnet: Trial) -> str:
    if not mxnet.ok:
        return "unknown"
    return ("GPU" if mxnet.facts["cuda"] else "CPU") + (", with oneDNN" if mxnet.facts["onednn"] else "")


def _dots(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _gib(size: float | None) -> str:
    return "unknown" if size is None else f"{size:.1f} GiB"
