"""Build backend of ``mxnetseg-cu112``: the GPU build of MXNet in a folder of its own.

The GPU build and the CPU build have different files under the same names. Installed in one folder, the build that
was installed last wins. So this wheel puts the GPU build into ``mxnetseg_cu112/``, and ``mxnetseg/_cuda.py`` adds that
folder to ``sys.path`` on a machine with a GPU.
"""
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
sys.path[:0] = [str(SOURCE), str(SOURCE.parent)]  # repack.py is in this folder of a source archive, above it elsewhere

from repack import Repacked  # noqa: E402

_cu112 = Repacked(
    "mxnetseg-cu112", "mxnet-cu112", summary="Apache MXNet for CUDA 11.2, repacked to stand beside the CPU build",
    packages=["mxnet"], requires=[], folder="mxnetseg_cu112", source=SOURCE)
prepare_metadata_for_build_wheel = _cu112.prepare_metadata_for_build_wheel
build_wheel = _cu112.build_wheel
build_sdist = _cu112.build_sdist
