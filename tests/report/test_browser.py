"""The page in headless Chromium: no errors, no requests, keyboard, narrow screens. Skipped without a browser."""
import pytest
from evaluations import evaluation

from mxnetseg.report.page import make_page
from mxnetseg.report.record import read_record

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    records = [read_record(evaluation(folder / name, worse=worse)) for name, worse in (("one", 0), ("two", 30))]
    (folder / "report.html").write_text(make_page(records, samples=50), encoding="utf-8")
    return (folder / "report.html").as_uri()


@pytest.fixture(params=[1280, 400])
def page(browser, address, request):
    context = browser.new_context(viewport={"width": request.param, "height": 800}, offline=True)
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or problems.append(r.url))
    page.goto(address)
    yield page
    assert problems == []
    context.close()


def test_the_page_is_no_wider_than_the_screen(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.locator("article").count() == 8


def test_arrow_keys_move_the_border_between_two_layers(page):
    slider = page.locator(".stage input").first
    slider.focus()
    before = page.locator(".stage .over").first.evaluate("e => getComputedStyle(e).clipPath")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    after = page.locator(".stage .over").first.evaluate("e => getComputedStyle(e).clipPath")
    assert slider.input_value() == "60" and before != after and "60%" in after


def test_a_finger_moves_the_border(page):
    pair = page.locator(".stage .pair").first
    pair.scroll_into_view_if_needed()
    box = pair.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 5)
    page.mouse.up()
    assert abs(int(page.locator(".stage input").first.input_value()) - 25) <= 2


def test_a_layer_is_chosen(page):
    card = page.locator("article").first
    right = card.locator("select").nth(1)
    assert right.input_value() == "prediction A"
    right.select_option("errors B")
    shown = card.locator(".over").get_attribute("src")
    assert shown == card.locator("img[data-name='errors B']").get_attribute("src")
    assert card.locator(".over").evaluate("e => e.naturalWidth") == 64


def test_a_heading_sorts_the_classes(page):
    heading = page.locator(".sortable th button").nth(2)
    heading.focus()
    page.keyboard.press("Enter")
    column = [float(t) for t in page.locator(".sortable tbody tr").evaluate_all(
        "rows => rows.map(row => row.cells[2].dataset.value)")]
    assert column == sorted(column, reverse=True)
    page.keyboard.press("Enter")
    assert page.locator(".sortable th").nth(2).get_attribute("aria-sort") == "ascending"


def test_every_link_and_control_can_be_reached_by_tab(page):
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName"))
    assert {"A", "BUTTON", "INPUT", "SELECT"} <= reached


def test_dark_and_light(browser, address):
    colours = []
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(address)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert colours == ["rgb(255, 255, 255)", "rgb(20, 23, 26)"]
