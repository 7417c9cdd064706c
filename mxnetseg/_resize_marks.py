"""Attributes by which the operators of a resize are found in a graph. :mod:`mxnetseg.nn.resize` writes them.

They have no effect on what is computed. MXNet is not imported here.
"""
from __future__ import annotations

# attribute of a symbol's operators: ROWS or COLUMNS for the product along that axis, and for the transpose before it;
# SOURCE or TARGET for the positions along an axis of the map, or of the one to whose size it is resized
RESIZE_MARK, ROWS, COLUMNS, SOURCE, TARGET = "__mxnetseg_resize__", "rows", "columns", "source", "target"
# Attribute of the product along the columns: one of the three kinds. "half_pixel*2" enlarges by 2, and then resizes to
# the TARGET, if there is one.
RESIZE_KIND = "__mxnetseg_resize_kind__"
HALF_PIXEL, ALIGN_CORNERS, NEAREST = "half_pixel", "align_corners", "nearest"
