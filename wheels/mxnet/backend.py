"""Build backend of ``mxnetseg-mxnet``: the CPU build of MXNet without its upper bounds on NumPy and graphviz."""
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
sys.path[:0] = [str(SOURCE), str(SOURCE.parent)]  # repack.py is in this folder of a source archive, above it elsewhere

from repack import Repacked  # noqa: E402

_mxnet = Repacked(
    "mxnetseg-mxnet", "mxnet", summary="Apache MXNet for CPUs, repacked for NumPy 1 and 2",
    packages=["mxnet", "dmlc_tracker"], requires=["numpy>=1.22,<3", "requests>=2.20,<3", "graphviz>=0.8.1"],
    folder=None, source=SOURCE)
prepare_metadata_for_build_wheel = _mxnet.prepare_metadata_for_build_wheel
build_wheel = _mxnet.build_wheel
build_sdist = _mxnet.build_sdist
