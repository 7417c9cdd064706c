"""Build backend of ``mxnetseg-cu112``: PyPI's ``mxnet-cu112`` in a folder of its own.

``mxnet`` and ``mxnet-cu112`` put different files under the same names into ``site-packages/mxnet``.
mxnetseg needs ``mxnet``, pip cannot leave that out for an extra, and of two such packages the one
that happens to be installed last wins: measured, the CPU build. So the extra installs this package
instead. pip fetches ``mxnet-cu112`` as a build requirement, and what it holds goes into the wheel
under ``mxnetseg_cu112/``; ``mxnetseg/_cuda.py`` puts that folder on ``sys.path`` where there is a GPU.

The functions are the hooks of PEP 517.
"""
import base64
import hashlib
import os
import zipfile
from importlib.metadata import distribution

NAME, VERSION = "mxnetseg_cu112", "1.9.1"
DIST_INFO = f"{NAME}-{VERSION}.dist-info"
TAG = "py3-none-linux_x86_64"
FILES = {
    "METADATA": ("Metadata-Version: 2.1\n"
                 "Name: mxnetseg-cu112\n"
                 f"Version: {VERSION}\n"
                 "Summary: Apache MXNet for CUDA 11.2, repacked to stand beside the CPU build\n"
                 "License: Apache-2.0\n"),
    "WHEEL": ("Wheel-Version: 1.0\n"
              "Generator: mxnetseg wheels/cu112\n"
              "Root-Is-Purelib: false\n"
              f"Tag: {TAG}\n"),
}


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    """Write the dist-info folder; return its name."""
    folder = os.path.join(metadata_directory, DIST_INFO)
    os.makedirs(folder, exist_ok=True)
    for name, text in FILES.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
    return DIST_INFO


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Write the wheel; return its name. Uncompressed: pip unpacks it at once and throws it away."""
    name = f"{NAME}-{VERSION}-{TAG}.whl"
    upstream = distribution("mxnet-cu112")
    record = []
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w", zipfile.ZIP_STORED) as wheel:
        for file in upstream.files:
            if file.parts[0] == "mxnet" and file.suffix != ".pyc":
                _add(wheel, record, f"{NAME}/{file.as_posix()}", upstream.locate_file(file).read_bytes())
        for file, text in FILES.items():
            _add(wheel, record, f"{DIST_INFO}/{file}", text.encode())
        record.append(f"{DIST_INFO}/RECORD,,")
        wheel.writestr(f"{DIST_INFO}/RECORD", "\n".join(record) + "\n")
    return name


def _add(wheel, record, name, content):
    """Put one file into the wheel, and its checksum into the list that becomes RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    record.append(f"{name},sha256={digest},{len(content)}")
    wheel.writestr(name, content)
