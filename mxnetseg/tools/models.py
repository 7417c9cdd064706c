"""``mxnetseg models``: list the networks."""
from __future__ import annotations

import argparse

SIZE = 512  # height and width of the image whose cost the table shows
HEADER = ("| name | default backbone | parameters, M | multiply-adds, G | stride | paper | published mIoU |\n"
          "|---|---|---|---|---|---|---|")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("filter", nargs="?", default="", help="only names that contain this text")
    parser.add_argument("--table", action="store_true",
                        help="as a Markdown table, with default backbone, parameters, multiply-adds at "
                        f"{SIZE} x {SIZE} (19 classes, no auxiliary head), output stride, paper and published mIoU")
    parser.add_argument("--pretrained", action="store_true", help="list the trained networks that `predict "
                        "--checkpoint` and `fetch` take by name")


def run(args: argparse.Namespace) -> int:
    """Print one name a line; 0, or 1 where the filter leaves none."""
    if args.pretrained:
        from ._pretrained import print_pretrained

        return print_pretrained(args.filter)
    from ..models import list_models

    names = [name for name in list_models() if args.filter.lower() in name.lower()]
    if args.table:
        print(HEADER)
    for name in names:
        print(_row(name) if args.table else name)
    return 0 if names else 1


def _row(name: str) -> str:
    from ..models import build_model
    from ..models._cost import measure
    from ..models._published import PAPERS, results

    net = build_model(name, nclass=19)
    cost, paper = measure(net, (SIZE, SIZE)), PAPERS[name]
    cited = f"[{paper.title}]({paper.url}). {paper.authors}, {paper.venue}. {paper.note}".strip()
    published = "<br>".join(map(str, results(name))) or "-"
    return (f"| {name} | {net.backbone_name} | {cost.count() / 1e6:.2f} | {cost.layer_macs / 1e9:.1f} | "
            f"{net.backbone.taps[-1].reduction} | {cited} | {published} |")
