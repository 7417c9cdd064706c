"""Train every network for 60 steps on the built-in sample and evaluate it, with the commands that users run.

    python scripts/train_all.py [NAME ...] [--timeout 900]

Each network is trained from its own configuration, with small crops and in its smallest form, as with ``python
train.py --model NAME ...``; then ``python eval.py`` scores the checkpoint. The table has one row a network: the mean
loss of the first and of the last ten steps, their ratio, and the mIoU (of 9 classes; 60 steps teach little more than
the road). Exit code 1 if a network fails or its loss does not fall.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mxnetseg.config import load_config  # noqa: E402
from mxnetseg.models import list_models  # noqa: E402

STEPS = 60  # 160 images, 8 a step, 3 epochs
COMMON = ["train.epochs=3", "train.batch_size=8", "train.log_every=1", "train.val_every=0", "data.crop_size=[96, 128]",
          "data.base_size=192", "data.scale=[0.75, 1.5]"]
# Smaller forms of networks that two cores cannot train in minutes with the settings of their configuration.
SMALLER = {**{name: ["model.options.width=18"] for name in ("hrnet", "ocrnet", "ovenet")},
           "setr": ["model.backbone=vit_reduced"], "flattenet": ["model.backbone=resnet50"]}
LARGEST_RATIO = 0.9  # of the last losses to the first; a network with a smaller ratio trains
HEADER = ("| network | backbone | loss, steps 1-10 | loss, steps 51-60 | ratio | mIoU | seconds |\n"
          "|---|---|---|---|---|---|---|")


class Row(NamedTuple):
    """Result of one network. ``problem`` is None if it trained."""

    name: str
    backbone: str
    first: float
    last: float
    miou: float
    seconds: float
    problem: str | None

    def __str__(self) -> str:
        if self.problem:
            return f"| {self.name} | {self.backbone} | {self.problem} | | | | {self.seconds:.0f} |"
        ratio = self.last / self.first
        return (f"| {self.name} | {self.backbone} | {self.first:.3f} | {self.last:.3f} | {ratio:.2f} | "
                f"{self.miou:.3f} | {self.seconds:.0f} |")


def settings(name: str) -> list[str]:
    """``--set`` values: small crops, and the smallest form of the network."""
    return COMMON + smallest_form(name)


def smallest_form(name: str) -> list[str]:
    """``--set`` values of a network's smallest form: ResNet-18 where the configuration has a deeper one."""
    backbone = load_config(name).model.backbone or ""
    return list(SMALLER.get(name, ["model.backbone=resnet18"] if backbone.startswith("resnet") else []))


def train_and_evaluate(name: str, timeout: float, extra: list[str] = ()) -> Row:
    """Train and evaluate one network in a temporary folder."""
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        problem, first, last, miou, backbone = None, 0.0, 0.0, 0.0, "?"
        try:
            overrides = [word for text in [*settings(name), *extra] for word in ("--set", text)]
            run("train.py", "--model", name, "--no-val", "--quiet", *overrides, cwd=folder, timeout=timeout)
            log, = Path(folder).glob(f"weights/{name}/*.jsonl")
            losses = [row["loss"] for row in map(json.loads, log.read_text().splitlines()) if row["kind"] == "step"]
            first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
            run("eval.py", "--model", name, "--quiet", "--save-dir", "out", cwd=folder, timeout=timeout)
            scores, = Path(folder).glob("out/*/val/scores.json")
            miou = json.loads(scores.read_text())["miou"]
            backbone = log.stem.split("_sample_")[0].split("_", 1)[1]
            if len(losses) != STEPS:
                problem = f"{len(losses)} steps"
        except subprocess.TimeoutExpired:
            problem = f"not finished after {timeout:.0f} s"
        except subprocess.CalledProcessError as error:
            problem = "failed: " + (error.stderr.strip().splitlines() or ["no message"])[-1]
    return Row(name, backbone, first, last, miou, time.time() - began, problem)


def run(script: str, *arguments: str, cwd: str | Path, timeout: float | None) -> str:
    """Run a script of the repository's root in a folder, and return what it prints."""
    return subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=cwd, timeout=timeout, check=True,
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description="Train every network for 60 steps on the sample.")
    parser.add_argument("names", nargs="*", help="only these (default: all)")
    parser.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="for each command")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="extra",
                        help="further configuration keys for all networks")
    args = parser.parse_args()
    print(HEADER, flush=True)
    bad = 0
    for name in args.names or list_models():
        row = train_and_evaluate(name, args.timeout, args.extra)
        print(row, flush=True)
        bad += bool(row.problem) or row.last > LARGEST_RATIO * row.first
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
