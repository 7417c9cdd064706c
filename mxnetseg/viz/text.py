"""Text in images: a font that has the letters of a name, or the number of the class where no font has them."""
from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ImageFont, features

from ..errors import printable

log = logging.getLogger(__name__)

_NO_CHARACTER = "\uffff"  # belongs to no script, so that every font draws its .notdef glyph for it
_TRIAL_SIZE = 16  # pixels, at which glyphs are compared
# fonts whose glyphs only say that a letter is missing, or that hold no plain outlines
_NOT_USED = ("lastresort", "adobeblank", "emoji")
# a file name with one of these is used after plain faces of the same folder
_STYLED = ("bold", "black", "heavy", "italic", "oblique", "light", "thin", "mono", "serif")


class Label(NamedTuple):
    """A text that can be drawn, and the font that has all its letters."""

    text: str
    font: Any

    @property
    def length(self) -> int:
        """Length of the text in pixels, rounded up."""
        return int(np.ceil(self.font.getlength(self.text)))


def label(name: str, number: int, size: int) -> Label:
    """Return a class name with a font that can draw it, without boxes in place of letters.

    The font is DejaVu Sans, which comes with matplotlib and has Latin, Greek, Cyrillic, Arabic and other alphabets. For
    names in other scripts it is the first font of the system that has all letters. Where there is none, or where Pillow
    cannot join and order the letters of a script (it needs Raqm for Arabic or Devanagari), the text is the number of
    the class, ``#3``, and a warning says so once.

    Args:
        name: name of the class.
        number: its id.
        size: size of the type in pixels.
    """
    text = unicodedata.normalize("NFC", printable(name, kept=""))
    path = _font_with(frozenset(text))
    if path is None:
        _warn_once(name, number)
        text, path = f"#{number}", default_font_file()
    return Label(text, _open(path, size))


def type_size(width: int) -> int:
    """Return a size of type, in pixels, that stays readable when an image of this width is scaled."""
    return int(np.clip(width / 60, 12, 48))


def default_font(size: int) -> Any:
    """Return DejaVu Sans, which is the same on every machine.

    Args:
        size: size of the type in pixels.
    """
    return _open(default_font_file(), size)


@cache
def default_font_file() -> str:
    """Return the file of DejaVu Sans."""
    import matplotlib  # contains it

    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def plot_label(name: str, number: int) -> tuple[str, Path]:
    """Return text and font file with which Matplotlib draws a class name; see :func:`label`.

    Matplotlib neither joins nor orders letters, so that names in Arabic, for example, become numbers.
    """
    text = unicodedata.normalize("NFC", printable(name, kept=""))
    path = None if any(map(_is_shaped, text)) else _font_with(frozenset(text))
    if path is None:
        _warn_once(name, number)
        text, path = f"#{number}", default_font_file()
    return text, Path(path)


@cache
def _font_with(letters: frozenset[str]) -> str | None:
    """Return the file of the first font that has all of these letters, None if there is none."""
    if not features.check("raqm") and any(_is_shaped(letter) for letter in letters):
        return None
    return next((path for path in _font_files() if _has_glyphs(path, letters)), None)


def _font_files() -> Iterator[str]:
    """Yield the files of the default font and of the system's fonts, plain faces first."""
    yield default_font_file()
    yield from _system_fonts()


@cache
def _system_fonts() -> list[str]:
    from matplotlib.font_manager import findSystemFonts  # knows the folders of each system, and asks fc-list

    names = {path: Path(path).name.lower() for path in findSystemFonts()}
    usable = [path for path, name in names.items() if not any(word in name for word in _NOT_USED)]
    return sorted(usable, key=lambda path: (any(word in names[path] for word in _STYLED), names[path], path))


def _has_glyphs(path: str, letters: frozenset[str]) -> bool:
    """Return whether a font draws each letter otherwise than a character that no font has."""
    try:
        font = ImageFont.truetype(path, _TRIAL_SIZE, layout_engine=ImageFont.Layout.BASIC)
        missing = _drawn(font, _NO_CHARACTER)
        return all(_is_invisible(letter) or _drawn(font, letter) not in (missing, None) for letter in letters)
    except (OSError, ValueError):  # a damaged file, or a font of bitmaps only
        return False


def _drawn(font: Any, letter: str) -> tuple[Any, bytes] | None:
    """Return size and pixels of a letter, None if it is blank."""
    mask = font.getmask(letter)
    pixels = bytes(mask)
    return (mask.size, pixels) if any(pixels) else None


def _is_invisible(letter: str) -> bool:
    """Return whether a character has no glyph of its own: spaces, joiners, variation selectors."""
    return letter.isspace() or unicodedata.category(letter) == "Cf" or 0xFE00 <= ord(letter) <= 0xFE0F


def _is_shaped(letter: str) -> bool:
    """Return whether a letter is written from right to left, or changes with its neighbours."""
    return unicodedata.bidirectional(letter) in ("R", "AL", "AN") or unicodedata.category(letter) in ("Mn", "Mc")


@cache
def _open(path: str, size: int) -> Any:
    return ImageFont.truetype(path, size)


@cache
def _warn_once(name: str, number: int) -> None:
    log.warning("no font here can draw the class name %s; images show #%d instead. Install a font with its letters, "
                "for example the package fonts-noto-cjk or fonts-noto-core", printable(name, kept=""), number)
