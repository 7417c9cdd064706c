"""Train every network for the same processor time and draw mIoU over multiply-adds.

    python scripts/compare_networks.py --data camvid --root CAMVID [NAME ...] [--minutes 20] [--out out/compare-camvid]

Each network starts from random weights, in its smallest form (as in train_all.py), and gets the same crops, batches,
optimiser and schedule; its number of steps is what fits into the budget. The budget is the processor time of the
training process and its threads, without its start, so that other work on the machine changes little. A step is timed
in two or three short runs first. A network with weights that these crops do not train (mxnetseg.models._taps) is
evaluated in windows of the crops' size, and marked with *: in whole images such weights are noise.

Results are kept in results.json, one network at a time: a run that was stopped continues. table.md and comparison.png
are written at the end. With OMP_NUM_THREADS=1 no thread waits for another, and each core can have a process with other
names and another --out. Put their rows into one results.json, and run the script again.
"""
from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from train_all import run, smallest_form  # noqa: E402  (first, because it prepares NumPy for mxnet)

from mxnetseg.files import atomic_write  # noqa: E402
from mxnetseg.models import build_model, list_models  # noqa: E402
from mxnetseg.models._taps import untrained_taps  # noqa: E402

if TYPE_CHECKING:
    from mxnetseg.data.base import SegDataset

BATCH = 8
TRIALS, QUICK = (2, 8, 40), 1  # steps of the trials; the last is for networks whose steps take less than a second
# Half of the images' size, so that also the slowest network sees each image of CamVid more than once in a few minutes.
CROPS = {"sample": ("[96, 128]", "192", "[0.75, 1.5]"), "camvid": ("[128, 160]", "240", "[0.6, 1.5]")}
COMMON = [f"train.batch_size={BATCH}", "train.val_every=0", "optimizer.name=adamw", "optimizer.lr=1e-3",
          "optimizer.weight_decay=1e-2", "optimizer.head_lr_mult=1", "schedule.name=cosine",
          "schedule.warmup_epochs=0.5", "data.jitter=0.2", "data.blur=false",
          "train.precision=auto", "train.save_every=1000"]


def settings(name: str, data: str) -> list[str]:
    """``--set`` values of a network: those of all networks, and its smallest form."""
    crop, base, scale = CROPS[data]
    return [*COMMON, f"data.crop_size={crop}", f"data.base_size={base}", f"data.scale={scale}", *smallest_form(name)]


def write_images(dataset: SegDataset, folder: Path) -> list[str]:
    """Write a data set's images and masks as a list data set; return the lines of its train.txt."""
    import cv2

    lines = []
    for i in range(len(dataset)):
        sample = dataset[i]
        cv2.imwrite(str(folder / f"{i}.png"), sample.image[..., ::-1])
        cv2.imwrite(str(folder / f"{i}_mask.png"), sample.mask)
        lines.append(f"{i}.png {i}_mask.png")
    (folder / "classes.txt").write_text("\n".join(dataset.classes))
    return lines


def train(name: str, epochs: int, lines: list[str], overrides: list[str], folder: Path, weights: Path) -> float:
    """Train on some lines of a list data set in a process of its own; return its processor time in seconds."""
    (folder / "train.txt").write_text("\n".join(lines))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run("train.py", "--model", name, "--backend", "torch", "--ctx", "cpu", "--no-val", "--quiet", "--data",
        f"list:{folder}", "--weights", str(weights), "--epochs", str(epochs), *overrides, cwd=weights, timeout=None)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(after[:2]) - sum(before[:2])


def plan(steps: int, images: int) -> tuple[int, int]:
    """Return the epochs, and the images of each, that make up a number of steps: as many images as possible."""
    epochs = max(1, math.ceil(steps * BATCH / images))
    return epochs, BATCH * max(1, round(steps / epochs))


def measure(name: str, data: str, root: Path | None, budget: float) -> dict[str, Any]:
    """Train one network for the budget (seconds), evaluate it, and return its row."""
    from mxnetseg.data import get_dataset
    from mxnetseg.models._cost import measure as count

    overrides = [word for text in settings(name, data) for word in ("--set", text)]
    dataset = get_dataset(data, split="train", root=root)
    with tempfile.TemporaryDirectory() as text, tempfile.TemporaryDirectory() as trial, \
            tempfile.TemporaryDirectory() as final:
        folder, weights = Path(text), Path(final)
        lines = write_images(dataset, folder)
        random.Random(0).shuffle(lines)
        def trial_run(steps: int) -> float:
            epochs, images = plan(steps, len(lines))
            return train(name, epochs, lines[:images], overrides, folder, Path(trial))

        short, step = trial_run(TRIALS[0]), 0.0
        for steps in TRIALS[1:]:
            if step < QUICK:
                step = max(1e-3, (trial_run(steps) - short) / (steps - TRIALS[0]))
        start = short - TRIALS[0] * step
        epochs, images = plan(max(1, round(budget / step)), len(lines))

        seconds = train(name, epochs, lines[:images], overrides, folder, weights) - start
        sidecar, = (json.loads(path.read_text()) for path in weights.glob(f"{name}/*.json"))
        net = build_model(**{key: value for key, value in sidecar["model"].items() if key != "aux"})
        slide = bool(untrained_taps(net, json.loads(CROPS[data][0])))
        run("eval.py", "--model", name, "--quiet", "--scores-only", "--weights", str(weights), "--data", data, "--base",
            CROPS[data][1], "--out", str(weights / "out"), *(["--root", str(root)] if root else []),
            *(["--set", "eval.mode=slide"] if slide else []), cwd=weights, timeout=None)
        scores, = (json.loads(path.read_text()) for path in weights.glob("out/*/val/scores.json"))
    height, width = dataset[0].image.shape[:2]
    cost = count(net, (height, width))
    return {"network": name, "backbone": sidecar["model"].get("backbone") or "-", "parameters": cost.count(),
            "multiply_adds": cost.layer_macs, "size": [height, width], "slide": slide,
            "steps": epochs * images // BATCH, "processor_seconds": seconds, "miou": scores["miou"]}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table, the best network first."""
    lines = ["| network | backbone | parameters, M | multiply-adds, G | steps | processor minutes | mIoU |",
             "|---|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: -row["miou"]):
        lines.append(f"| {row['network']}{' *' if row['slide'] else ''} | {row['backbone']} | "
                     f"{row['parameters'] / 1e6:.2f} | {row['multiply_adds'] / 1e9:.1f} | "
                     f"{row['steps']} | {row['processor_seconds'] / 60:.1f} | "
                     f"{100 * row['miou']:.1f} |")
    return "\n".join(lines) + "\n"


# offsets of a name from its point in pixels, and where the name begins
PLACES = [(6, -4, "left"), (-6, -4, "right"), (0, 7, "center"), (0, -15, "center"), (6, 6, "left"), (-6, 6, "right"),
          (6, -14, "left"), (-6, -14, "right"), (0, 18, "center"), (0, -26, "center")]


def draw(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Draw mIoU over multiply-adds, one named point a network; each name takes the first place that is free."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator
    from matplotlib.transforms import Bbox

    figure = Figure(figsize=(10, 6.5), dpi=110, facecolor="white")
    figure.subplots_adjust(left=0.07, right=0.92, bottom=0.09, top=0.93)
    canvas, axis = FigureCanvasAgg(figure), figure.subplots()
    points = [(row["multiply_adds"] / 1e9, 100 * row["miou"]) for row in rows]
    for point in points:
        axis.plot(*point, "o", color="#0072b2", markersize=5)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("multiply-adds for one image in billions")
    axis.set_ylabel("validation mIoU in %")
    axis.set_title(title)
    axis.grid(color="#e5e5e5")
    axis.spines[["top", "right"]].set_visible(False)

    canvas.draw()  # from here on, the axes have their place
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in map(axis.transData.transform, points)]
    for row, point in zip(rows, points):
        for dx, dy, side in PLACES:
            name = axis.annotate(row["network"], point, (dx, dy), textcoords="offset pixels", fontsize=8, ha=side)
            box = name.get_window_extent(canvas.get_renderer())
            if not any(box.overlaps(other) for other in taken):
                break
            name.remove()
        else:
            axis.annotate(row["network"], point, PLACES[0][:2], textcoords="offset pixels", fontsize=8)
        taken.append(box)
    canvas.print_png(str(path))


def main() -> int:
    """Train what is not in results.json yet; return 1 if a network failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only these (default: all)")
    parser.add_argument("--data", choices=sorted(CROPS), default="sample")
    parser.add_argument("--root", type=Path, help="folder of CamVid")
    parser.add_argument("--minutes", type=float, default=20, help="processor time of each network's training")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    out = args.out or Path(f"out/compare-{args.data}")
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {"minutes": args.minutes, "rows": []}
    if results["minutes"] != args.minutes:
        raise SystemExit(f"error: {kept} has results of {results['minutes']:g} minutes: choose another --out")

    failed = 0
    for name in args.names or list_models():
        if any(row["network"] == name for row in results["rows"]):
            continue
        try:
            row = measure(name, args.data, args.root, 60 * args.minutes)
        except subprocess.CalledProcessError as error:
            failed += 1
            print(f"{name} failed: {(error.stderr.strip().splitlines() or ['no message'])[-1]}", flush=True)
            continue
        results["rows"].append(row)
        with atomic_write(kept, "w") as file:
            file.write(json.dumps(results, indent=1))
        print(table([row]).splitlines()[-1], flush=True)
    with atomic_write(out / "table.md", "w") as file:
        file.write(table(results["rows"]))
    draw(results["rows"], f"{len(results['rows'])} networks on {args.data} after {args.minutes:g} minutes of processor "
         "time each, from random weights", out / "comparison.png")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
