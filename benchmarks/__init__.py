"""Speed, measured side by side: competitors take turns in one run, each in a process of its own.

``turns`` is the referee, ``tasks`` says who competes at what, ``bars`` what is to be reached. Competitors: ``ours`` and
``theirs`` (inference and training steps), ``epoch``, ``loading``, ``evaluation``, ``memory``, ``start``; ``theirs`` and
``theirs_data`` are run by a Python that has PyTorch and need not have mxnetseg.
"""
