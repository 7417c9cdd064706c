"""The table of ``mxnetseg models --pretrained``: networks that come with the package or are downloaded by name."""
from __future__ import annotations


def print_pretrained(text: str = "") -> int:
    """Print the trained networks whose line contains a text; return 0, or 1 where there is none.

    The scores are those that GluonCV published, in per cent. The last column says whether the file is on this machine.
    """
    rows = [row for row in _rows() if text.lower() in " ".join(row).lower()]
    if not rows:
        return 1
    table = [("name", "network", "data", "mIoU", "pixels", "MB", "on this machine"), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    right = (False, False, False, True, True, True, False)  # numbers
    for row in table:
        cells = [cell.rjust(width) if is_right else cell.ljust(width)
                 for cell, width, is_right in zip(row, widths, right)]
        print("  ".join(cells).rstrip())
    print("\nmIoU and pixel accuracy in per cent, published by GluonCV: PASCAL VOC on its test server, the others on "
          "validation images.\n`mxnetseg fetch NAME` downloads; predict, eval and export take --checkpoint NAME.")
    return 0


def _rows() -> list[tuple[str, ...]]:
    from ..engine.included import FOLDER, has_included, included_sidecar
    from ..models.weights.downloads import caches
    from ..models.weights.gluoncv_zoo import CHECKPOINTS, PREFIX, file_of, network_of

    rows: list[tuple[str, ...]] = []
    if has_included():
        sidecar = included_sidecar()
        model, in_bytes = sidecar["model"], sum(file.stat().st_size for file in FOLDER.glob("*.params"))
        rows.append(("included", _network(model["name"], model.get("backbone", "")), sidecar["data"]["name"].lower(),
                     "-", "-", f"{in_bytes / 1e6:.0f}", "comes with mxnetseg"))
    for name, entry in CHECKPOINTS.items():
        model, backbone, data = network_of(name)
        found = next((path for path in (folder / file_of(name).member for folder in caches()) if path.is_file()), None)
        size: float = entry.megabytes if found is None else found.stat().st_size / 1e6
        rows.append((PREFIX + name, _network(model, backbone), data, _score(entry.miou), _score(entry.pixel_accuracy),
                     f"{size:.0f}", str(found or "no")))
    return rows


def _network(model: str, backbone: str) -> str:
    return f"{model} on {backbone}" if backbone else model


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
