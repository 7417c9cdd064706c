"""What MXNet 1.9.1 needs from today's Python before it is imported.

MXNet 1.9.1 still spells ``np.bool``, ``np.int`` and their kin, which NumPy removed in 1.24.
:func:`restore_numpy_aliases` puts them back; it runs when :mod:`mxnetseg` is imported, hence
before any module of this package can import mxnet.
"""
import numpy as np

from .errors import EnvironmentProblem

_ALIASES = {"bool": bool, "int": int, "float": float, "complex": complex, "object": object, "str": str}


def restore_numpy_aliases():
    """Put back the aliases of built-in types that NumPy 1.24 removed; refuse NumPy 2.

    Raises:
        EnvironmentProblem: NumPy is 2 or later, where MXNet 1.9.1 cannot be imported at all.
    """
    if int(np.__version__.split(".")[0]) >= 2:
        raise EnvironmentProblem(
            "MXNet 1.9.1 does not run with NumPy 2",
            received=f"numpy {np.__version__}",
            fix="pip install 'numpy<2'",
        )
    for name, builtin in _ALIASES.items():
        if name not in np.__dict__:  # hasattr() would trigger NumPy's own deprecation machinery
            setattr(np, name, builtin)


restore_numpy_aliases()
