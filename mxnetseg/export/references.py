"""The program that computes the source of an export."""
from __future__ import annotations

from ..backends.package import NetworkPackage
from ..errors import EnvironmentProblem
from .verification import Reference


def reference_of(package: NetworkPackage) -> Reference:
    """Return a function that computes what a package describes: MXNet, or PyTorch where MXNet is not installed.

    Raises:
        EnvironmentProblem: neither is installed.
        CheckpointError: the network cannot be converted to PyTorch.
    """
    try:
        import mxnet  # noqa: F401
    except ImportError:
        pass
    else:
        from ..backends.mxnet_trace import package_function

        return Reference("MXNet", package_function(package))
    try:
        import torch  # noqa: F401
    except ImportError:
        raise EnvironmentProblem("an export is compared with its source, which needs MXNet or PyTorch",
                                 fix="pip install 'mxnetseg[torch]'") from None
    from .torch_format import package_function as torch_function

    return Reference("PyTorch (MXNet is not installed)", torch_function(package))
