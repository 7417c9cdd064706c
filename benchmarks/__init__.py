"""Speed benchmark: competitors run alternately, each in its own process. Not installed; run by ``mxnetseg benchmark``.

``settings`` lists what can be measured, ``tasks`` names the competitors of each task, ``rounds`` runs them, and
``targets`` compares the results with the speed to reach.

The competitors are ``ours`` and ``theirs`` (inference and training steps), ``epoch``, ``loading``, ``evaluation``,
``memory`` and ``start``. ``theirs`` and ``theirs_data`` are run by a Python with PyTorch that need not have mxnetseg.
"""
import mxnetseg  # noqa: F401  (makes mxnet importable in every module of this package)
