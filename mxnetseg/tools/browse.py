"""``mxnetseg browse``: show images of a data set and training crops, as a contact sheet and an HTML page."""
from __future__ import annotations

import base64
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from .common import (
    add_data_arguments,
    add_decoding_arguments,
    add_out_argument,
    add_quiet_argument,
    add_set_argument,
    decoding_changes,
    progress_bar,
    whole_number,
)

SHEET, PAGE = "contact_sheet.png", "index.html"
_SHEET_SIDE, _PAGE_SIDE = 300, 720  # pixels, longest side of an image on the sheet and on the page
_IGNORED_BRIGHTNESS = 0.35  # of ignored pixels in overlays


class ShownItem(NamedTuple):
    """One item of the data set, and training crops of it.

    Attributes:
        name: name of the item in the data set.
        files: paths of the image and the mask.
        image, mask: uint8 (H, W, 3) RGB and (H, W) train ids.
        crops: pairs of image and mask.
    """

    name: str
    files: tuple[Path, Path]
    image: np.ndarray
    mask: np.ndarray
    crops: list[tuple[np.ndarray, np.ndarray]]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_data_arguments(parser, optional=True)
    add_out_argument(parser, "out/browse", "the sheet and the page")
    parser.add_argument("--split", help="split to show (default: the configuration's training split)")
    parser.add_argument("--count", type=whole_number(), default=8, metavar="N",
                        help="number of images (default: %(default)s)")
    parser.add_argument("--crops", type=whole_number(), default=2, metavar="N",
                        help="number of crops of each image (default: %(default)s)")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="N",
                        help="seed for choosing images and crops (default: %(default)s)")
    parser.add_argument("--config", metavar="NAME|FILE", help="make the crops by this configuration; without "
                        "NAME|PATH, also show its data set")
    add_set_argument(parser, "change a key of the configuration: --set data.crop_size=256")
    add_decoding_arguments(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    """Write the sheet and the page. Return 1 if a chosen image could not be read, else 0."""
    from ..data.parallel import in_parallel
    from ..errors import MXNetSegError

    _check(args)
    config, dataset = _open(args)
    items, broken = [], []

    def load(i: int) -> ShownItem | MXNetSegError:
        try:
            return _load_item(dataset, i, config.data, args.crops, args.seed)
        except MXNetSegError as error:  # concerns one image; the others are shown
            return error

    chosen = np.sort(np.random.default_rng(args.seed).permutation(len(dataset))[:args.count]).tolist()
    loaded = in_parallel(load, chosen, timeout=config.data.timeout, where=dataset.image_path)
    for result in progress_bar("browse", args.quiet)(loaded, len(chosen)):
        (items if isinstance(result, ShownItem) else broken).append(result)

    for error in broken:
        print(f"not shown: {error}")
    if not items:
        return 1
    _write_sheet(args.out / SHEET, items, dataset, config.data)
    _write_page(args.out / PAGE, items, dataset, config.data)
    print(f"{len(items)} of {len(dataset)} images of {dataset.name}, split {dataset.split}\n"
          f"  {args.out / SHEET}\n  {args.out / PAGE}")
    return 1 if broken else 0


def _check(args: Namespace) -> None:
    from ..errors import UsageError

    if args.name is None and args.config is None:
        raise UsageError("no data set is given",
                         fix="give a data set, a folder or a configuration: mxnetseg browse camvid")
    if args.out.exists() and not args.out.is_dir():
        raise UsageError("the output is a file, not a folder", where="--out", received=args.out,
                         fix="give a folder")


def _open(args: Namespace):
    """Return the configuration and the split to show."""
    from ..config import load_config
    from ..data import get_dataset, without_folder
    from ..data.decoding import Decoding
    from ..errors import DataError

    config = load_config(args.config, overrides=args.overrides)
    config = config.replace(decoding_changes(args), where="the command line")
    recorded = without_folder(config.data.name) if args.root else config.data.name
    name, root = (args.name, args.root) if args.name else (recorded, args.root or config.data.root)
    dataset = get_dataset(name, split=args.split or config.data.train_split, root=root,
                          decoding=Decoding.of(config.data))
    if dataset.mask_path(0) is None:
        raise DataError("this split has no masks, so it cannot be shown", where=repr(dataset),
                        fix=f"choose another with --split: {', '.join(dataset.splits)}")
    if args.config is None:  # the default sizes may not fit this data set
        config = _with_sizes(config, dataset, args.overrides)
    return config, dataset


def _with_sizes(config, dataset, overrides: Sequence[str]):
    """Return the configuration with sizes for the data set, unless the user gave them."""
    from .check_data import suggest_sizes

    given = [text.partition("=")[0].strip() for text in overrides]
    height, width = dataset.load_image(0).shape[:2]
    sizes = {f"data.{key}": value for key, value in suggest_sizes(width, height).items()}
    return config.replace({key: value for key, value in sizes.items() if key not in given})


def _load_item(dataset, i: int, data, crops: int, seed: int) -> ShownItem:
    from ..data.recipes import make_transform

    transform = make_transform(data)
    image, mask, name = dataset[i]
    pairs = [transform(image, mask, np.random.default_rng([seed, i, k])) for k in range(crops)]
    return ShownItem(name, (dataset.image_path(i), dataset.mask_path(i)), image, mask, pairs)


# ---- images ---------------------------------------------------------------------------------


def _overlay(image: np.ndarray, mask: np.ndarray, palette: np.ndarray, classes: Sequence[str] = ()) -> np.ndarray:
    """Return the image tinted by class, except the background; ignored pixels are dark."""
    from ..data.base import IGNORE
    from ..viz.overlay import overlay

    tinted = overlay(image, mask, palette, classes=classes)
    ignored = mask == IGNORE
    tinted[ignored] = (tinted[ignored] * _IGNORED_BRIGHTNESS).astype(np.uint8)
    return tinted


def _ignored_colour(palette: np.ndarray) -> tuple[int, int, int]:
    """Return black, or another grey if black is the colour of a class."""
    taken = {tuple(colour) for colour in np.asarray(palette).tolist()}
    greys = ((level,) * 3 for level in (0, 255, 128, *range(1, 255)))
    return next(colour for colour in greys if colour not in taken)


def _legend(dataset) -> tuple[list[str], np.ndarray]:
    """Return the names and colours of the classes, with ignored pixels last."""
    colours = [*np.asarray(dataset.palette).tolist(), _ignored_colour(dataset.palette)]
    return [*dataset.classes, "ignored"], np.array(colours, np.uint8)


def _colour(mask: np.ndarray, palette: np.ndarray) -> np.ndarray:
    from ..viz.palette import colorize

    return colorize(mask, palette, ignore_colour=_ignored_colour(palette))


def _count_pixels(items: Sequence[ShownItem], nclass: int) -> np.ndarray:
    """Return the number of pixels of each class in all items, with ignored pixels last: int64 (nclass + 1,)."""
    counts = sum((np.bincount(item.mask.ravel(), minlength=256) for item in items), np.zeros(256, np.int64))
    return np.append(counts[:nclass], counts[-1])


def _write_sheet(path: Path, items: Sequence[ShownItem], dataset, data) -> None:
    from ..viz.overlay import grid, with_legend
    from ..viz.palette import save_rgb_png
    from ..viz.sheet import scale_down

    palette, rows = dataset.palette, []
    for item in items:
        image, mask = scale_down(item.image, _SHEET_SIDE), scale_down(item.mask, _SHEET_SIDE)
        row = [image, _colour(mask, palette), _overlay(image, mask, palette, dataset.classes)]
        for crop in item.crops:
            image, mask = (scale_down(part, _SHEET_SIDE) for part in crop)
            row += [image, _overlay(image, mask, palette, dataset.classes)]
        rows.append(row)

    captions = ["image", "mask", "overlay"]
    for k in range(len(items[0].crops)):
        captions += [f"crop {k + 1}, {data.crop_size[1]} x {data.crop_size[0]}", "overlay of the crop"]
    names, colours = _legend(dataset)
    present = np.flatnonzero(_count_pixels(items, dataset.nclass))
    save_rgb_png(with_legend(grid(rows, captions), names, colours, present=present), path)


# ---- the page -------------------------------------------------------------------------------

_STYLE = """
:root { --alpha: .5; color-scheme: light dark; }
body { font: 15px/1.4 system-ui, sans-serif; margin: 0 auto; max-width: 1500px; padding: 0 1rem 3rem; }
header { position: sticky; top: 0; z-index: 1; background: Canvas; padding: .6rem 0; border-bottom: 1px solid #8884; }
h1 { font-size: 1.2rem; margin: 0 0 .3rem; } h2 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
h2 small { font-weight: normal; opacity: .7; }
ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; margin: .4rem 0 0; padding: 0; }
ul { max-height: 20vh; overflow: auto; }
li i { display: inline-block; width: .9em; height: .9em; border: 1px solid #888; vertical-align: -.1em; }
li small, figcaption { opacity: .7; }
.row { display: flex; flex-wrap: wrap; gap: .6rem; align-items: flex-start; }
figure { margin: 0; } figure div { position: relative; } figure img { display: block; height: 300px; }
figure img + img { position: absolute; inset: 0; opacity: var(--alpha); image-rendering: pixelated; }
"""
_SCRIPT = "document.documentElement.style.setProperty('--alpha', this.value)"


def _write_page(path: Path, items: Sequence[ShownItem], dataset, data) -> None:
    """Write an HTML page in one file, with the images inside."""
    from ..files import atomic_write

    with atomic_write(path, "w") as stream:
        stream.writelines(line + "\n" for line in _page(items, dataset, data))


def _page(items: Sequence[ShownItem], dataset, data) -> Iterator[str]:
    title = escape(f"{dataset.name}, split {dataset.split}")
    yield f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    yield f"<header><h1>{title}: {len(items)} of {len(dataset)} images</h1>"
    yield ('<label>opacity of the classes <input type="range" min="0" max="1" step="0.05" value="0.5" '
           f'oninput="{_SCRIPT}"></label> &nbsp; crops: {escape(_describe(data))}<ul>')
    counts = _count_pixels(items, dataset.nclass)
    for i, (name, colour, n) in enumerate(zip(*_legend(dataset), counts)):
        if n:
            id_text = f"{i} " if i < dataset.nclass else ""
            yield (f'<li><i style="background:rgb{tuple(colour.tolist())}"></i> {id_text}{escape(name)} '
                   f"<small>{n / counts.sum():.1%}</small></li>")
    yield "</ul></header>"

    for item in items:
        height, width = item.mask.shape
        yield (f"<h2>{escape(item.name)} <small>{width} x {height}, {escape(str(item.files[0]))}, "
               f'{escape(str(item.files[1]))}</small></h2><div class="row">')
        yield _figure(item.image, item.mask, dataset, "image")
        for k, crop in enumerate(item.crops, 1):
            yield _figure(*crop, dataset, f"crop {k}, as used in training")
        yield "</div>"
    yield "</html>"


def _describe(data) -> str:
    """Describe how the crops are made."""
    height, width = data.crop_size
    if data.recipe:
        return f"{width} x {height}, by the recipe {data.recipe} with base_size {data.base_size}"
    return (f"{width} x {height}, from images whose long side is {data.base_size} times {data.scale[0]:g} to "
            f"{data.scale[1]:g}")


def _figure(image: np.ndarray, mask: np.ndarray, dataset, caption: str) -> str:
    from ..viz.palette import background_ids
    from ..viz.sheet import scale_down

    image, mask = scale_down(image, _PAGE_SIDE), scale_down(mask, _PAGE_SIDE)
    opaque = ~np.isin(mask, background_ids(dataset.classes)) * np.uint8(255)
    return (f'<figure><div><img alt="" src="{_uri(image, ".jpg")}">'
            f'<img alt="" src="{_uri(np.dstack([_colour(mask, dataset.palette), opaque]), ".png")}"></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>")


def _uri(image: np.ndarray, suffix: str) -> str:
    """Return an image, (H, W, 3) RGB or (H, W, 4) with opacity, as a data URI."""
    options: dict[str, Any] = {".jpg": ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, 92]), ".png": ("png", [])}
    subtype, settings = options[suffix]
    conversion = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    _, data = cv2.imencode(suffix, cv2.cvtColor(image, conversion), settings)
    return f"data:image/{subtype};base64,{base64.b64encode(data).decode()}"
