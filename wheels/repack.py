"""Repack a wheel of Apache MXNet 1.9.1 as a distribution that can be installed with current packages.

MXNet's own wheels cannot be used as they are: they require ``numpy<2`` and ``graphviz<0.9``, and the CPU build and
the GPU build install different files under the same names. The folders beside this file repack one wheel each. They
share this module: ``backend.py`` in each is a build backend (PEP 517) made of the methods of :class:`Repacked`.

The upstream wheel is downloaded with pip as a file. As a build requirement it would bring its own requirements, and
``numpy<2`` cannot be installed on Python 3.13.
"""
from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

_MXNET = "1.9.1"
VERSION = _MXNET  # of the repacked distributions


class Repacked:
    """Distribution that holds the files of an upstream wheel.

    Args:
        name: the new distribution's name.
        upstream: the distribution to repack, in the same version.
        summary: one line on its purpose.
        packages: top-level folders of the upstream wheel to keep.
        requires: the new requirements.
        folder: folder in the new wheel that receives the packages; None: its top.
        source: folder with ``pyproject.toml`` and ``backend.py``.
    """

    def __init__(self, name: str, upstream: str, *, summary: str, packages: list[str], requires: list[str],
                 folder: str | None, source: Path):
        self._stem, self._upstream, self._packages = f"{name.replace('-', '_')}-{VERSION}", upstream, packages
        self._prefix, self._source = f"{folder}/" if folder else "", source
        self._info = f"{self._stem}.dist-info"
        self._metadata = "\n".join([
            "Metadata-Version: 2.1", f"Name: {name}", f"Version: {VERSION}", f"Summary: {summary}",
            "License: Apache-2.0", "Requires-Python: >=3.9", *(f"Requires-Dist: {r}" for r in requires), ""])

    def prepare_metadata_for_build_wheel(self, metadata_directory, config_settings=None) -> str:
        """Write the dist-info folder and return its name. Downloads nothing."""
        folder = Path(metadata_directory, self._info)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "METADATA").write_text(self._metadata, encoding="utf-8")
        return self._info

    def build_wheel(self, wheel_directory, config_settings=None, metadata_directory=None) -> str:
        """Write the wheel and return its name. It is not compressed, since pip unpacks it at once."""
        with tempfile.TemporaryDirectory() as folder:
            upstream = self._download(folder)
            _, _, tags = upstream.stem.split("-", 2)  # Python, ABI and platform
            name, record = f"{self._stem}-{tags}.whl", []
            with zipfile.ZipFile(upstream) as source, \
                    zipfile.ZipFile(Path(wheel_directory, name), "w", zipfile.ZIP_STORED) as wheel:
                for entry in source.infolist():
                    if not entry.is_dir() and entry.filename.split("/")[0] in self._packages:
                        _add(wheel, record, self._prefix + entry.filename, source.read(entry))
                _add(wheel, record, f"{self._info}/METADATA", self._metadata.encode())
                _add(wheel, record, f"{self._info}/WHEEL", _wheel_file(source).encode())
                record.append(f"{self._info}/RECORD,,")
                wheel.writestr(f"{self._info}/RECORD", "\n".join(record) + "\n")
        return name

    def build_sdist(self, sdist_directory, config_settings=None) -> str:
        """Write the source archive and return its name. It holds the recipe alone, not MXNet."""
        name = f"{self._stem}.tar.gz"
        files = {"PKG-INFO": self._metadata.encode(), "repack.py": Path(__file__).read_bytes(),
                 **{file: (self._source / file).read_bytes() for file in ("pyproject.toml", "backend.py")}}
        with tarfile.open(Path(sdist_directory, name), "w:gz", format=tarfile.PAX_FORMAT) as archive:
            for file, content in files.items():
                entry = tarfile.TarInfo(f"{self._stem}/{file}")
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
        return name

    def _download(self, folder: str) -> Path:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                        "--only-binary", ":all:", "--dest", folder, f"{self._upstream}=={_MXNET}"], check=True)
        wheel, = Path(folder).glob("*.whl")
        return wheel


def _wheel_file(source: zipfile.ZipFile) -> str:
    """Return the text of the file WHEEL, with the tags of the upstream wheel."""
    path, = (name for name in source.namelist() if name.endswith(".dist-info/WHEEL"))
    tags = Parser().parsestr(source.read(path).decode()).get_all("Tag")
    return "\n".join(["Wheel-Version: 1.0", "Generator: mxnetseg wheels/repack.py", "Root-Is-Purelib: true",
                      *(f"Tag: {tag}" for tag in tags), ""])


def _add(wheel: zipfile.ZipFile, record: list[str], name: str, content: bytes) -> None:
    """Add one file to the wheel, and its checksum to the lines of RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    record.append(f"{name},sha256={digest},{len(content)}")
    wheel.writestr(name, content)
