"""Training curves: the values that are drawn or left out, and drawing without a display."""
import math
import subprocess
import sys

import pytest
from PIL import Image

from mxnetseg.viz.curves import curves

ROWS = [
    {"epoch": 0, "train_loss": 2.0, "lr": 0.01},
    {"epoch": 1, "train_loss": 1.5, "lr": 0.008,
     "val_loss": 1.7, "val_miou": 0.4, "val_pa": 0.8, "val_mpa": 0.5},
    {"epoch": 2, "train_loss": 1.2, "lr": 0.005},
    {"epoch": 3, "train_loss": 1.1, "lr": 0.001,
     "val_loss": 1.9, "val_miou": 0.3, "val_pa": 0.7, "val_mpa": 0.4},
]


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Return a function that draws rows and returns {vertical label: {label of the curve: [(x, y), ...]}}."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figures = []
    print_png = FigureCanvasAgg.print_png

    def keep(self, *args, **kwargs):
        figures.append(self.figure)
        return print_png(self, *args, **kwargs)
    monkeypatch.setattr(FigureCanvasAgg, "print_png", keep)

    def draw(rows, **options):
        curves(rows, tmp_path / "curves.png", **options)
        return {axis.get_ylabel(): {line.get_label(): list(zip(line.get_xdata(), line.get_ydata()))
                                    for line in axis.lines} for axis in figures[-1].axes}
    return draw


def test_every_curve(drawn):
    panels = drawn(ROWS)
    assert list(panels) == ["loss", "validation score in %", "learning rate"]
    assert panels["loss"] == {"training": [(0, 2.0), (1, 1.5), (2, 1.2), (3, 1.1)],
                              "validation": [(1, 1.7), (3, 1.9)]}
    assert panels["validation score in %"]["mIoU"] == [(1, 40), (3, 30)]
    assert panels["validation score in %"]["pixel accuracy"] == [(1, 80), (3, 70)]
    assert panels["validation score in %"]["class accuracy"] == [(1, 50), (3, 40)]
    assert panels["learning rate"]["learning rate"][-1] == (3, 0.001)


def test_each_class_has_a_line(drawn):
    rows = [{"epoch": 1, "val_iou/road": 0.5, "val_iou/_background_": 0.25},
            {"epoch": 2, "val_iou/road": 0.125, "val_iou/_background_": 0.75}]
    lines = drawn(rows)["IoU of each class in %"]
    assert list(lines.items()) == [(" _background_", [(1, 25), (2, 75)]), ("road", [(1, 50), (2, 12.5)])]


def test_of_many_classes_the_lowest_are_named(drawn):
    lines = drawn([{"epoch": 1, **{f"val_iou/class {i}": i / 100 for i in range(50)}}])
    (title, named), = lines.items()
    assert title.splitlines() == ["IoU of each class in %", "(the 20 lowest are named)"]
    assert {name for name in named if not name.startswith("_")} == {f"class {i}" for i in range(20)}


def test_the_best_epoch_is_marked(drawn):
    assert drawn(ROWS)["validation score in %"]["best mIoU: 40.00 % in epoch 1"] == [(1, 40)]


def test_the_diagram_of_validation_is_left_out_without_values(drawn):
    assert list(drawn([{"epoch": 0, "train_loss": 1.0, "lr": 0.1}])) == ["loss", "learning rate"]


@pytest.mark.parametrize("missing", [None, "", "n/a", math.nan, math.inf, "nan"])
def test_missing_values_leave_a_gap(drawn, missing):
    keys = ("train_loss", "val_loss", "val_miou", "val_pa", "val_mpa", "lr")
    rows = [*ROWS, {"epoch": 4, **dict.fromkeys(keys, missing)}]
    assert drawn(rows) == drawn(ROWS)


def test_text_and_other_keys(drawn):
    rows = [{"time": "12:00", **{key: str(value) for key, value in row.items()}} for row in ROWS]
    assert drawn(rows) == drawn(ROWS)


def test_a_resumed_run_replaces_its_repeated_epochs(drawn):
    repeated = {"epoch": 2, "train_loss": 9.0, "lr": 9.0}
    assert drawn([*ROWS[:2], repeated, *ROWS[2:]]) == drawn(ROWS)


def test_rows_of_one_epoch_complete_one_another_in_any_order(drawn):
    parts = [{"epoch": row["epoch"], key: value} for row in ROWS for key, value in row.items()]
    assert drawn(parts[::-1]) == drawn(ROWS)


def test_rows_without_epoch_are_numbered(drawn):
    assert drawn([{"train_loss": 2}, {"train_loss": 1}])["loss"]["training"] == [(0, 2), (1, 1)]


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS, [{"epoch": 0, "train_loss": 0.0}]])
def test_the_file_is_an_image(rows, tmp_path):
    path = tmp_path / "new folder" / "curves.png"
    curves(rows, path, title="fcn_resnet18")
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG" and image.size[0] > 600


def test_neither_a_display_nor_mxnet_is_used(tmp_path):
    """A training run on a server draws its curves; metrics and viz do not import the networks."""
    program = f"""
import sys
from mxnetseg.metrics import ConfusionMatrix
from mxnetseg.viz import confusion, curves, overlay, palette
assert not {{"matplotlib", "mxnet"}} & set(sys.modules), "loaded before anything is drawn"
curves.curves([{{"epoch": 0, "train_loss": 1}}], {str(tmp_path / "a.png")!r})
confusion.confusion(ConfusionMatrix(2).counts, ["a", "b"], {str(tmp_path / "b.png")!r})
overlay.legend(["a"], [[1, 2, 3]], 100)
assert not {{"matplotlib.pyplot", "mxnet", "tkinter"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
