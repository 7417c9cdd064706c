"""Drawing of the confusion matrix."""
import numpy as np
import pytest
from PIL import Image

from mxnetseg.errors import UsageError
from mxnetseg.viz.confusion import LABELLED_CELLS, confusion

COUNTS = np.array([[90, 10, 0], [0, 0, 0], [1, 1, 2]])
CLASSES = ["road", "car", "sky"]


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Return a function that draws a matrix and returns its Matplotlib axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figures = []
    print_figure = FigureCanvasAgg.print_figure

    def keep(self, *args, **kwargs):
        figures.append(self.figure)
        return print_figure(self, *args, **kwargs)
    monkeypatch.setattr(FigureCanvasAgg, "print_figure", keep)

    def draw(counts, classes):
        confusion(counts, classes, tmp_path / "confusion.png")
        return figures[-1].axes[0]
    return draw


def test_rows_are_percentages_of_the_true_class(drawn):
    values = drawn(COUNTS, CLASSES).images[0].get_array()
    assert values.filled(-1).tolist() == [[90, 10, 0], [-1, -1, -1], [25, 25, 50]]


def test_cells_show_their_numbers(drawn):
    texts = {tuple(map(int, text.get_position())): text.get_text() for text in drawn(COUNTS, CLASSES).texts}
    assert texts == {(0, 0): "90", (1, 0): "10", (0, 2): "25", (1, 2): "25", (2, 2): "50"}


def test_axes_show_the_names(drawn):
    axis = drawn(COUNTS, CLASSES)
    for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert [label.get_text() for label in labels] == CLASSES
    assert axis.get_ylabel() == "true" and axis.get_xlabel().startswith("predicted")


def test_many_classes_get_a_scale_instead_of_numbers(drawn):
    n = LABELLED_CELLS + 1
    axis = drawn(np.eye(n, dtype=int), [str(i) for i in range(n)])
    assert not axis.texts and len(axis.figure.axes) == 2


@pytest.mark.parametrize("n", [1, 3, 60])
def test_the_file_is_an_image_that_grows_with_the_classes(n, tmp_path):
    path = tmp_path / "confusion.png"
    confusion(np.ones((n, n), int), ["a rather long class name"] * n, path, title="fcn_resnet18")
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG" and min(image.size) > 15 * n


@pytest.mark.parametrize("counts, classes", [
    (COUNTS, CLASSES[:2]), (COUNTS[:2], CLASSES), (np.zeros((0, 0)), [])])
def test_invalid_confusion_matrices(counts, classes, tmp_path):
    with pytest.raises(UsageError):
        confusion(counts, classes, tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
