"""Display of images with their classes: as HTML in a notebook, in a window, or as a file."""
from __future__ import annotations

import base64
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np
from PIL import Image, ImageShow

from ..errors import printable
from .palette import Palette, save_rgb_png
from .sheet import scale_down

LARGEST = 150_000  # bytes of one image in HTML, before base64 adds a third
_SIDES = (640, 480, 320, 200)  # pixels: the longest sides that are tried until an image has at most LARGEST bytes
_PNG_SIDE = 200  # up to this side an image is stored without loss; JPEG would blur small class maps
_LISTED = 12  # classes in the table


class Panel(NamedTuple):
    """An image of a display: uint8 (H, W, 3) RGB, with a caption, and a description for readers who do not see it."""

    caption: str
    description: str
    image: np.ndarray


def make_html(heading: str, panels: Sequence[Panel], shares: Mapping[str, float],
              colours: Mapping[str, Sequence[int]]) -> str:
    """Return images side by side with a table of shares as HTML that loads nothing.

    Args:
        heading: one line of text.
        panels: the images; they are scaled down so that each has at most ``LARGEST`` bytes.
        shares: name of a class -> fraction of the pixels, largest first.
        colours: name of a class -> RGB, 0 to 255.
    """
    figures = "".join(
        f'<figure style="margin:0"><img src="{data_uri(panel.image)}" alt="{_text(panel.description)}" '
        f'style="display:block;max-width:100%;min-width:160px;image-rendering:'
        f'{"pixelated" if max(panel.image.shape[:2]) < _PNG_SIDE else "auto"}">'
        f"<figcaption>{_text(panel.caption)}</figcaption></figure>" for panel in panels)
    rows = "".join(
        f'<tr><td style="text-align:left"><span style="display:inline-block;width:.9em;height:.9em;border:1px solid '
        f'#888;vertical-align:-.1em;background:#{bytes(colours[name]).hex()}"></span> {_text(name)}</td>'
        f'<td style="text-align:right">{share:.1%}</td></tr>' if name in colours else
        f'<tr><td style="text-align:left">{_text(name)}</td><td style="text-align:right">{share:.1%}</td></tr>'
        for name, share in list(shares.items())[:_LISTED])
    if len(shares) > _LISTED:
        rows += f'<tr><td colspan="2" style="text-align:left">and {len(shares) - _LISTED} more</td></tr>'
    return (f'<div><div style="margin:.3em 0">{_text(heading)}</div>'
            f'<div style="display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start">{figures}'
            f'<table style="margin:0"><tbody>{rows}</tbody></table></div></div>')


def data_uri(image: np.ndarray, largest: int = LARGEST) -> str:
    """Return an image, (H, W, 3) uint8 RGB, as a data URI of at most ``largest`` bytes before base64.

    It is scaled down as far as necessary. Small images are PNG, others JPEG.
    """
    for side in _SIDES:
        small = Image.fromarray(scale_down(image, side))
        kind = "PNG" if max(small.size) <= _PNG_SIDE else "JPEG"
        stream = BytesIO()
        small.save(stream, kind, **({"quality": 88} if kind == "JPEG" else {"optimize": True}))
        if stream.tell() <= largest:
            break
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def show(item: Any, name: str, draw: Callable[[], np.ndarray]) -> None:
    """Display an item: in a notebook as its HTML, on a desktop in the image viewer, elsewhere as a file.

    Args:
        item: has ``_repr_html_``.
        name: begins the name of the file.
        draw: returns the image for viewer and file, (H, W, 3) uint8 RGB.
    """
    if _is_in_notebook():
        from IPython.display import display

        display(item)
        return
    image = draw()
    if has_desktop() and ImageShow.show(Image.fromarray(image), title=name):
        return
    folder = Path(tempfile.mkdtemp(prefix="mxnetseg-"))
    path = folder / f"{Path(name).name or 'image'}.png"
    save_rgb_png(image, path)
    print(f"no window can be opened here; the image is {path}")  # this function is called for what it shows


def has_desktop() -> bool:
    """Return whether windows can be opened: False on a server, or in a terminal over SSH."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def describe_shares(shares: Mapping[str, float], count: int = 4) -> str:
    """Return the largest shares as text: ``road 31 %, sky 20 %``."""
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(shares.items())[:count])


def shares_of(class_map: np.ndarray, classes: Sequence[str], ignored: str = "ignored") -> dict[str, float]:
    """Return the fraction of the pixels of each class that is present, largest first.

    Args:
        class_map: uint8 (H, W); values that are no class count as ``ignored``.
        classes: n names.
        ignored: their name in the result, where they come last.
    """
    counts = np.bincount(class_map.ravel(), minlength=256) / max(class_map.size, 1)
    shares = {classes[i]: float(counts[i]) for i in np.argsort(-counts[:len(classes)], kind="stable") if counts[i]}
    rest = float(counts[len(classes):].sum())
    return {**shares, ignored: rest} if rest else shares


def colours_of(classes: Sequence[str], palette: Palette) -> dict[str, list[int]]:
    """Return name -> RGB."""
    return dict(zip(classes, np.asarray(palette).tolist()))


def _is_in_notebook() -> bool:
    """Return whether this code runs in the kernel of a notebook; IPython is not imported to find out."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def _text(text: str) -> str:
    return escape(printable(text, kept=""))
