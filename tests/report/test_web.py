"""`mxnetseg web` in headless Chromium, from the command to the saved file. Skipped without Gradio or a browser."""
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported import CLASSES, PALETTE, RECORD, write_onnx
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
STREET = ROOT / "demo" / "street.png"
OTHER = ["sky", "тень", "道路 <i>x</i>"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write two networks that differ in the order of their classes."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("networks")
    write_onnx(folder / "first.onnx")
    write_onnx(folder / "second.onnx", record={**RECORD, "data": {**RECORD["data"], "classes": OTHER,
                                                                  "palette": PALETTE[::-1]}})
    return folder


@pytest.fixture(scope="module")
def address(folder):
    """Start the command as a user does, and return the address of the page; stop it by Ctrl-C."""
    pytest.importorskip("gradio")
    command = [sys.executable, "-m", "mxnetseg", "web", "first.onnx", "second.onnx", "--port", "0", "--no-browser",
               "--max-megapixels", "1", "--max-upload", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "GRADIO_ANALYTICS_ENABLED": "True"}
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)
    printed = []
    for line in server.stdout:
        printed.append(line)
        if line.startswith("page"):
            break
    found = re.search(r"http://127\.0\.0\.1:\d+", "".join(printed))
    assert found, "".join(printed)
    yield found[0]
    server.send_signal(signal.SIGINT)
    rest, _ = server.communicate(timeout=60)
    assert server.returncode == 0 and rest.strip().endswith("stopped") and "Traceback" not in rest, rest


@pytest.fixture
def page(browser, address, request):
    width = getattr(request, "param", 1280)
    context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
    page, problems = context.new_page(), []
    page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))

    def only_here(route):  # stands for a machine without a network
        if route.request.url.startswith((address, "data:", "blob:")):
            return route.continue_()
        problems.append(route.request.url)
        return route.abort()
    page.route("**/*", only_here)
    page.goto(address)
    page.locator("#mxs-upload").wait_for()
    yield page
    assert problems == []
    context.close()


def upload(page, path, expect=".mxs-result[data-drawn]"):
    with page.expect_file_chooser() as chooser:
        page.locator("#mxs-upload").click()
    chooser.value.set_files(str(path))
    page.locator(expect).wait_for(timeout=60_000)


def drawn(page):
    """Return the canvas as (H, W, 4)."""
    width, height, data = page.evaluate("""() => {
        const canvas = document.querySelector('.mxs-stage canvas');
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return [canvas.width, canvas.height, Array.from(data)]; }""")
    return np.array(data, np.uint8).reshape(height, width, 4)


def redrawn(page, change):
    """Carry out a change, and wait until the page has drawn again."""
    before = int(page.locator(".mxs-result").get_attribute("data-drawn"))
    change()
    page.wait_for_function(f"document.querySelector('.mxs-result').dataset.drawn > {before}")


def downloaded(page, name):
    with page.expect_download() as download:
        page.get_by_role("link", name=name).click()
    return download.value


def choose(page, label, option):
    page.get_by_label(label).click()
    page.get_by_role("option", name=option).click()


@pytest.fixture(scope="module")
def predicted(folder):
    """Return the class map that `mxnetseg predict` writes."""
    from mxnetseg.tools.main import main
    assert main(["predict", str(STREET), "--checkpoint", str(folder / "first.onnx"), "--out", str(folder / "out")]) == 0
    return folder / "out" / "street_classes.png"


@pytest.mark.parametrize("page", [1280, 400], indirect=True)
def test_an_image_its_overlay_and_both_downloads(page, predicted, tmp_path):
    upload(page, STREET)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    ids = np.array(Image.open(predicted))
    canvas, palette = drawn(page), np.array(PALETTE, np.uint8)
    tinted = canvas[..., 3] == 128
    assert 0.5 < tinted.mean() < 1 and (canvas[..., 3] >= 128).all()  # the borders are opaque
    assert np.abs(canvas[..., :3][canvas[..., 3] == 255].astype(int) - palette[ids][canvas[..., 3] == 255]).max() == 0

    mask = downloaded(page, "Download mask")
    assert mask.suggested_filename == "street_classes.png"
    assert Path(mask.path()).read_bytes() == predicted.read_bytes()
    overlay = Image.open(downloaded(page, "Download overlay").path())
    expected = Image.open(predicted.with_name("street_overlay.png"))
    assert (np.array(overlay) == np.array(expected)).all()


def test_opacity_and_classes_without_the_network(page, predicted):
    upload(page, STREET)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    slider = page.get_by_label("Opacity of the classes")
    redrawn(page, lambda: slider.fill("80"))
    assert (np.unique(drawn(page)[..., 3]) == [204, 255]).all()

    ids = np.array(Image.open(predicted))
    first = page.locator(".mxs-legend input").first
    hidden = int(first.get_attribute("data-id"))
    redrawn(page, lambda: first.uncheck(force=True))
    assert ((drawn(page)[..., 3] == 0) == (ids == hidden)).all()
    redrawn(page, lambda: page.get_by_role("button", name="Hide all").click())
    assert (drawn(page)[..., 3] == 0).all()
    redrawn(page, lambda: page.get_by_role("button", name="Show all").click())
    assert (drawn(page)[..., 3] > 0).all()
    redrawn(page, lambda: page.get_by_label("Names").check())
    assert page.locator(".mxs-names span:visible").count() > 0
    redrawn(page, lambda: first.uncheck(force=True))
    assert requests == []  # nothing was asked of the server

    plain = np.array(Image.open(predicted.with_name("street_overlay.png")))
    shown = np.array(Image.open(downloaded(page, "Download overlay").path()))
    original = np.array(Image.open(STREET).convert("RGB"))
    height, width = ids.shape
    left = (shown.shape[1] - width) // 2
    assert (shown[:height, left:left + width][ids == hidden] == original[ids == hidden]).all()
    assert shown.shape != plain.shape or (shown != plain).any()


@pytest.mark.parametrize("page", [1280, 400], indirect=True)
def test_another_network_keeps_image_and_opacity(page):
    upload(page, STREET)
    redrawn(page, lambda: page.get_by_label("Opacity of the classes").fill("20"))
    names = page.locator(".mxs-legend tbody th").all_inner_texts()
    assert {name.strip() for name in names} <= set(CLASSES)
    choose(page, "Network", "second.onnx")
    page.locator(".mxs-legend tbody th", has_text="тень").or_(
        page.locator(".mxs-legend tbody th", has_text="道路 <i>x</i>")).first.wait_for(timeout=60_000)
    page.locator(".mxs-result[data-drawn]").wait_for()
    assert page.get_by_label("Opacity of the classes").input_value() == "20"
    assert "second" in page.locator(".mxs-result").inner_text()


def test_a_backend_that_does_not_read_the_network_is_not_offered(page):
    page.get_by_label("Backend").click()
    offered = page.get_by_role("option").all_inner_texts()
    assert {text.strip(" ✓\n") for text in offered} <= {"auto", "onnxruntime", "openvino"}
    page.keyboard.press("Escape")


def test_an_image_above_the_limit_is_scaled_down_with_a_note(page, tmp_path):
    Image.new("RGB", (2000, 1500), (90, 120, 150)).save(tmp_path / "large.jpg")
    upload(page, tmp_path / "large.jpg")
    note = page.locator(".mxs-note").inner_text()
    assert "2000 × 1500" in note and "1154 × 866" in note and "mxnetseg predict large.jpg" in note
    assert drawn(page).shape == (866, 1154, 4)


def test_a_file_that_is_too_large(page, tmp_path):
    (tmp_path / "huge.png").write_bytes(np.random.default_rng(0).bytes(2_000_000))
    with page.expect_file_chooser() as chooser:
        page.locator("#mxs-upload").click()
    chooser.value.set_files(str(tmp_path / "huge.png"))
    page.get_by_text(re.compile("1 MB")).last.wait_for()
    said = page.locator(".mxs-say")
    said.filter(has_text="mxnetseg predict").wait_for()
    assert "huge.png" in said.inner_text()


@pytest.mark.parametrize("page", [1280, 400], indirect=True)
def test_not_an_image(page, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    upload(page, tmp_path / "notes.png", expect=".mxs-problem")
    problem = page.locator(".mxs-problem").inner_text()
    assert "notes.png" in problem and "fix" in problem and "/" not in problem.split("fix")[0]
    upload(page, STREET)  # the page still works
    assert page.locator(".mxs-problem").count() == 0


def test_paste_and_drop(page):
    for event in ("paste", "drop"):
        page.evaluate("""async ([event, source]) => {
            const data = await (await fetch(source)).blob();
            const transfer = new DataTransfer();
            transfer.items.add(new File([data], event + "ed.png", {type: "image/png"}));
            document.dispatchEvent(event === "paste" ? new ClipboardEvent(event, {clipboardData: transfer})
                                                     : new DragEvent(event, {dataTransfer: transfer}));
        }""", [event, data_uri(STREET)])
        page.locator(f".mxs-result[aria-label*='{event}ed']").wait_for(timeout=60_000)


def data_uri(path):
    import base64
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def test_keyboard_and_descriptions(page):
    upload(page, STREET)
    assert page.locator(".mxs-stage img").get_attribute("alt") == "street, 288 × 192 pixels"
    assert "%" in page.locator(".mxs-stage canvas").get_attribute("aria-label")
    assert page.locator("img:not([alt])").count() == 0
    reached = []
    page.locator("#mxs-upload").focus()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("""() => { const e = document.activeElement;
            return e.ariaLabel || e.className || e.tagName; }"""))
    for wanted in ("mxs-paste", "Opacity of the classes", "mxs-all", "mxs-get-overlay"):
        assert any(wanted in one for one in reached), (wanted, reached)
    slider = page.get_by_label("Opacity of the classes")
    slider.focus()
    redrawn(page, lambda: page.keyboard.press("ArrowRight"))
    assert slider.input_value() == "51"
