"""``mxnetseg models``: list the networks, or the backbones."""
from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models._published import Result

SMALL, FAST, ACCURATE = 5.0, 10.0, 80.0  # M parameters at most, G multiply-adds at most, % mIoU at least
_JUDGED = "Cityscapes", "val"  # the images on which networks are called accurate
HEADER = ("| name | default backbone | parameters, M | multiply-adds, G | stride | paper | published mIoU |\n"
          "|---|---|---|---|---|---|---|")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from ..models._sizes import SIDE

    parser.add_argument("filter", nargs="?", default="", help="only names that contain this text")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--names", action="store_true", help="only the names, one a line")
    form.add_argument("--backbones", action="store_true", help="the names of the backbones instead, one a line")
    form.add_argument("--pretrained", action="store_true", help="the trained networks that `predict --checkpoint` and "
                      "`fetch` take by name")
    form.add_argument("--table", action="store_true",
                      help="as a Markdown table, measured now, with default backbone, parameters, multiply-adds at "
                      f"{SIDE} x {SIDE} (19 classes, no auxiliary head), output stride, paper and published mIoU")


def run(args: argparse.Namespace) -> int:
    """Print the list; 0, or 1 where the filter leaves nothing."""
    if args.pretrained:
        from ._pretrained import print_pretrained

        return print_pretrained(args.filter)
    from ..models import list_models
    from ..models.backbones import list_backbones

    names = [name for name in (list_backbones() if args.backbones else list_models())
             if args.filter.lower() in name.lower()]
    if args.table:
        print("\n".join([HEADER, *map(_row, names)]))
    elif args.names or args.backbones:
        print("\n".join(names), end="\n" if names else "")
    elif names:
        print("\n".join(_overview(names)))
    return 0 if names else 1


def _overview(names: list[str]) -> list[str]:
    """Return the lines of the table for people."""
    from ..models._sizes import SIDE, SIZES

    rows = [("network", "backbone", "parameters", "multiply-adds", "published mIoU, %", "")]
    for name in names:
        size, best = SIZES[name], _best_published(name)
        is_accurate = best is not None and (best.data, best.split) == _JUDGED and best.miou >= ACCURATE
        words = [word for word, holds in (("small", size.parameters <= SMALL), ("fast", size.multiply_adds <= FAST),
                                          (f"accurate with {best and best.backbone}", is_accurate)) if holds]
        rows.append((name, size.backbone, f"{size.parameters:.1f} M", f"{size.multiply_adds:.1f} G",
                     f"{best.miou:.1f}  {best.data} {best.split}" if best else "-", ", ".join(words)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.rjust(width) if column in (2, 3) else text.ljust(width)
                       for column, (text, width) in enumerate(zip(row, widths))).rstrip() for row in rows]
    return [*lines, "",
            f"parameters and multiply-adds: with this backbone, for an image of {SIDE} x {SIDE}",
            "published mIoU: the highest of any backbone at one scale, on Cityscapes val if there is one",
            f"small: at most {SMALL:g} M parameters; fast: at most {FAST:g} G multiply-adds; accurate: at least "
            f"{ACCURATE:g} % on Cityscapes val",
            "`mxnetseg summary NAME` shows more of a network; in a checkout, `mxnetseg benchmark --model NAME` times "
            "some of them."]


def _best_published(name: str) -> Result | None:
    """Return the published row of the highest mIoU at one scale, of Cityscapes val if there is one."""
    from ..models._published import results

    rows = [row for row in results(name) if row.miou is not None]
    judged = [row for row in rows if (row.data, row.split) == _JUDGED]
    return max(judged or rows, key=lambda row: row.miou, default=None)


def _row(name: str) -> str:
    from ..models import build_model
    from ..models._cost import measure
    from ..models._published import PAPERS, results
    from ..models._sizes import SIDE

    net = build_model(name, nclass=19)
    cost, paper = measure(net, (SIDE, SIDE)), PAPERS[name]
    cited = f"[{paper.title}]({paper.url}). {paper.authors}, {paper.venue}. {paper.note}".strip()
    published = "<br>".join(map(str, results(name))) or "-"
    return (f"| {name} | {net.backbone_name} | {cost.count() / 1e6:.2f} | {cost.layer_macs / 1e9:.1f} | "
            f"{net.backbone.taps[-1].reduction} | {cited} | {published} |")
