"""Shards of a data set: every ``count``-th item, so that ``count`` processes share the work."""
from __future__ import annotations

from typing import NamedTuple


class Shard(NamedTuple):
    """Part of the work of several processes.

    Attributes:
        index: number of this shard, from 0.
        count: number of shards.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index
    count: int  # type: ignore[assignment]  # hides tuple.count

    def indices(self, total: int) -> range:
        """Return the indices of the items, out of ``total``, that belong to this shard."""
        return range(self.index, total, self.count)


WHOLE = Shard(0, 1)
