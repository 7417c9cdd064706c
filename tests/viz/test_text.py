"""Text in images: letters or the number of the class, never boxes."""
import logging

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mxnetseg.viz import text
from mxnetseg.viz.confusion import confusion
from mxnetseg.viz.curves import curves
from mxnetseg.viz.overlay import legend, with_legend
from mxnetseg.viz.text import default_font_file, label

ROAD, ARABIC, CYRILLIC = "道路", "طريق", "Дорога"


def box(left, bottom, right, top):
    pen = TTGlyphPen(None)
    pen.moveTo((left, bottom))
    for corner in ((left, top), (right, top), (right, bottom)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


@pytest.fixture
def font_of(tmp_path):
    """Return a function that writes a font with shapes for some letters, and a box for all others."""
    def write(letters, name="shapes.ttf"):
        glyphs = {".notdef": box(50, 0, 450, 700)}
        glyphs.update({f"g{i}": box(50 + 30 * i, 100 * i, 900, 300 + 100 * i) for i, _ in enumerate(letters)})
        font = FontBuilder(1000, isTTF=True)
        font.setupGlyphOrder(list(glyphs))
        font.setupCharacterMap({ord(letter): f"g{i}" for i, letter in enumerate(letters)})
        font.setupGlyf(glyphs)
        font.setupHorizontalMetrics({glyph: (1000, 50) for glyph in glyphs})
        font.setupHorizontalHeader(ascent=800, descent=-200)
        font.setupNameTable({"familyName": "Shapes", "styleName": "Regular"})
        font.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
        font.setupPost()
        font.save(tmp_path / name)
        return str(tmp_path / name)
    return write


@pytest.fixture(autouse=True)
def system(monkeypatch):
    """Return a list that holds the fonts of the system; it is empty."""
    fonts = []
    monkeypatch.setattr(text, "_system_fonts", lambda: fonts)
    for function in (text._font_with, text._warn_once):
        function.cache_clear()
    yield fonts
    for function in (text._font_with, text._warn_once):
        function.cache_clear()


@pytest.mark.parametrize("name", ["road", "Straße", "Οδός", CYRILLIC, "a b", "", "e\u0301te\u0301"])
def test_the_default_font_draws_these(name):
    drawn = label(name, 3, 16)
    assert drawn.font.path == default_font_file() and drawn.text == name.replace("e\u0301", "é")


def test_a_name_without_a_font_is_its_number_with_one_warning(caplog):
    with caplog.at_level(logging.WARNING, "mxnetseg"):
        for _ in range(2):
            assert label(ROAD, 3, 16).text == "#3"
    assert len(caplog.records) == 1 and ROAD in caplog.text and "#3" in caplog.text and "fonts-noto" in caplog.text


def test_a_font_of_the_system_with_all_letters_is_used(system, font_of):
    system += [font_of("道", "half.ttf"), font_of(ROAD, "whole.ttf")]
    drawn = label(ROAD, 3, 20)
    assert drawn.text == ROAD and drawn.font.path.endswith("whole.ttf") and drawn.font.size == 20
    assert label("road", 0, 20).font.path == default_font_file()
    assert label("Road " + ROAD, 4, 20).text == "#4"  # no single font has Latin and Chinese


def test_a_damaged_font_is_left_out(system, font_of, tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    system += [str(tmp_path / "broken.ttf"), font_of(ROAD)]
    assert label(ROAD, 3, 16).text == ROAD


def test_a_glyph_that_is_drawn_like_a_missing_one_is_missing(system, font_of):
    path = font_of(ROAD)
    assert text._has_glyphs(path, frozenset(ROAD)) and not text._has_glyphs(path, frozenset("道x"))


@pytest.mark.parametrize("has_raqm", [True, False])
def test_letters_that_join_need_raqm(monkeypatch, has_raqm):
    monkeypatch.setattr(text.features, "check", lambda feature: has_raqm)
    assert label(ARABIC, 2, 16).text == (ARABIC if has_raqm else "#2")
    assert label(CYRILLIC, 2, 16).text == CYRILLIC


def test_matplotlib_draws_names_of_any_script(system, font_of, tmp_path):
    system.append(font_of(ROAD + "lp"))  # Matplotlib measures lines by these letters
    names = ["road", ROAD, ARABIC, "未知", CYRILLIC]
    assert [text.plot_label(name, i)[0] for i, name in enumerate(names)] == ["road", ROAD, "#2", "#3", CYRILLIC]
    confusion(np.eye(5), names, tmp_path / "confusion.png")  # a glyph that is missing would be a warning
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_curves_show_names_of_any_script(system, font_of, tmp_path):
    font = font_of(ROAD + "lp")
    system.append(font)
    classes = ["road", ROAD, ARABIC, "a$b$c"]
    rows = [{"epoch": 0, **{f"val_iou/{name}": 0.1 * i for i, name in enumerate(classes)}}]
    with pytest.MonkeyPatch.context() as patch:
        figures = []
        patch.setattr(FigureCanvasAgg, "print_png", lambda self, stream: figures.append(self.figure))
        curves(rows, tmp_path / "curves.png")
    figures[0].canvas.draw()  # a glyph that is missing would be a warning
    texts = {text.get_text(): text.get_fontproperties().get_file() for text in figures[0].axes[0].get_legend().texts}
    assert set(texts) == {"road", ROAD, "#2", r"a\$b\$c"}
    assert texts[ROAD] == font and texts["road"] == default_font_file()


def test_control_characters_are_escaped():
    assert label("a\nb\x1b[31m", 0, 16).text == r"a\nb\x1b[31m"


def test_a_legend_shows_numbers_of_the_whole_palette():
    palette = np.full((4, 3), 200, np.uint8)
    names = ["road", "sky", "#2", ROAD]
    numbered = with_legend(np.zeros((20, 300, 3), np.uint8), names, palette, present=[3])
    assert (numbered[20:] == legend(["#3"], palette[:1], 300)).all()


def test_the_order_of_the_systems_fonts(monkeypatch):
    from matplotlib import font_manager
    monkeypatch.undo()
    files = ["/f/NotoSerifCJK.ttc", "/f/NotoSansCJK-Bold.ttc", "/f/wqy.ttc", "/f/LastResort.otf",
             "/f/NotoColorEmoji.ttf", "/f/NotoSansCJK-Regular.ttc"]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: files)
    text._system_fonts.cache_clear()
    try:
        assert text._system_fonts() == ["/f/NotoSansCJK-Regular.ttc", "/f/wqy.ttc", "/f/NotoSansCJK-Bold.ttc",
                                        "/f/NotoSerifCJK.ttc"]
    finally:
        text._system_fonts.cache_clear()
