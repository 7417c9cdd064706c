"""From the export of each labelling tool to a report: prepare auto, check-data, train, predict, eval, report.

Each export is written here by the rules of its tool.
"""
import csv
import json

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT, COUNT = 96, 64, 12
COLOURS = {"background": (0, 0, 0), "cat": (200, 40, 40), "dog": (40, 40, 200)}


def boxes(i):
    """Return the boxes of image ``i``: class -> left, top, right, bottom."""
    return {"cat": (4 + i, 8, 40 + i, 40), "dog": (50, 20 + i, 90, 60)}


def corners(box):
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def ids(i):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, (left, top, right, bottom) in enumerate(boxes(i).values(), 1):
        mask[top:bottom, left:right] = value
    return mask


def photo(i):
    colours = np.array(list(COLOURS.values()), np.uint8)[ids(i)]
    return Image.fromarray(colours // 2 + np.random.default_rng(i).integers(60, 110, colours.shape, dtype=np.uint8))


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))


def names(suffix=""):
    return [f"photo{i:02}{suffix}" for i in range(COUNT)]


def labelme(root):
    for i, name in enumerate(names()):
        save(photo(i), root / f"{name}.jpg")
        shapes = [{"label": label, "points": corners(box), "shape_type": "polygon", "group_id": None, "flags": {}}
                  for label, box in boxes(i).items()]
        write(root / f"{name}.json", {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{name}.jpg",
                                      "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH})


def coco(root):
    images, annotations = [], []
    for i, name in enumerate(names(".jpg")):
        save(photo(i), root / "images" / name)
        images.append({"id": i + 1, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for category, (left, top, right, bottom) in enumerate(boxes(i).values(), 1):
            annotations.append({"id": len(annotations) + 1, "image_id": i + 1, "category_id": category, "iscrowd": 0,
                                "segmentation": [sum(corners((left, top, right, bottom)), [])],
                                "bbox": [left, top, right - left, bottom - top],
                                "area": (right - left) * (bottom - top)})
    write(root / "annotations.json", {"images": images, "annotations": annotations, "categories": [
        {"id": 1, "name": "cat", "supercategory": ""}, {"id": 2, "name": "dog", "supercategory": ""}]})


def coco_of_roboflow(root):
    for split, numbers in (("train", range(8)), ("valid", range(8, COUNT))):
        images, annotations = [], []
        for i in numbers:
            name = f"photo{i:02}.jpg"
            save(photo(i), root / split / name)
            images.append({"id": i, "license": 1, "file_name": name, "height": HEIGHT, "width": WIDTH,
                           "date_captured": "2025-01-01T00:00:00+00:00"})
            for category, box in enumerate(boxes(i).values(), 1):
                annotations.append({"id": len(annotations), "image_id": i, "category_id": category, "iscrowd": 0,
                                    "segmentation": [sum(corners(box), [])], "area": 100,
                                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]})
        write(root / split / "_annotations.coco.json", {
            "info": {}, "licenses": [], "images": images, "annotations": annotations,
            "categories": [{"id": 0, "name": "animals", "supercategory": "none"},
                           {"id": 1, "name": "cat", "supercategory": "animals"},
                           {"id": 2, "name": "dog", "supercategory": "animals"}]})


def coco_of_cvat(root):
    """CVAT's folders; its masks are runs along columns, of 0 first, and carry iscrowd."""
    images, annotations = [], []
    for i, name in enumerate(names(".jpg")):
        save(photo(i), root / "images/default" / name)
        images.append({"id": i + 1, "width": WIDTH, "height": HEIGHT, "file_name": name, "license": 0,
                       "flickr_url": "", "coco_url": "", "date_captured": 0})
        for category in (1, 2):
            flat = np.concatenate([[0], ids(i).T.ravel() == category, [0]])
            changes = np.flatnonzero(np.diff(flat)).tolist()
            ends = [0, *changes, WIDTH * HEIGHT]
            annotations.append({"id": len(annotations) + 1, "image_id": i + 1, "category_id": category, "iscrowd": 1,
                                "segmentation": {"counts": [b - a for a, b in zip(ends, ends[1:])],
                                                 "size": [HEIGHT, WIDTH]},
                                "area": 100.0, "bbox": [0.0, 0.0, 1.0, 1.0], "attributes": {"occluded": False}})
    write(root / "annotations/instances_default.json", {
        "licenses": [{"name": "", "id": 0, "url": ""}], "info": {"year": ""}, "images": images,
        "annotations": annotations, "categories": [{"id": 1, "name": "cat", "supercategory": ""},
                                                   {"id": 2, "name": "dog", "supercategory": ""}]})


def cvat_masks(root):
    for i, name in enumerate(names()):
        save(photo(i), root / "JPEGImages" / f"{name}.jpg")
        save(Image.fromarray(np.array(list(COLOURS.values()), np.uint8)[ids(i)]),
             root / "SegmentationClass" / f"{name}.png")
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\n" + "".join(
        f"{name}:{','.join(map(str, colour))}::\n" for name, colour in COLOURS.items()))
    write(root / "ImageSets/Segmentation/default.txt", "\n".join(names()) + "\n")


def cvat_xml(root):
    labels = "".join(f"<label><name>{name}</name><color>#ff0000</color><attributes/></label>"
                     for name in ("cat", "dog"))
    images = ""
    for i, name in enumerate(names(".jpg")):
        save(photo(i), root / "images" / name)
        polygons = "".join(
            f'<polygon label="{label}" source="manual" occluded="0" points="'
            f'{";".join(f"{x:.2f},{y:.2f}" for x, y in corners(box))}" z_order="0"></polygon>'
            for label, box in boxes(i).items())
        images += f'<image id="{i}" name="{name}" width="{WIDTH}" height="{HEIGHT}">{polygons}</image>'
    write(root / "annotations.xml", '<?xml version="1.0" encoding="utf-8"?>'
          f"<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>{images}</annotations>")


def roboflow_masks(root):
    for i, name in enumerate(names()):
        split = "train" if i < 8 else "valid"
        save(photo(i), root / split / f"{name}.jpg")
        save(Image.fromarray(ids(i)), root / split / f"{name}_mask.png")
    for split in ("train", "valid"):
        write(root / split / "_classes.csv", "Pixel Value, Class\n0, background\n1, cat\n2, dog\n")


def yolo(root):
    for i, name in enumerate(names()):
        split = "train" if i < 8 else "val"
        save(photo(i), root / "images" / split / f"{name}.jpg")
        lines = [f"{value} " + " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in corners(box))
                 for value, box in enumerate(boxes(i).values())]
        write(root / "labels" / split / f"{name}.txt", "\n".join(lines) + "\n")
    write(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n")


def label_studio(root):
    tasks = []
    for i, name in enumerate(names(".jpg")):
        save(photo(i), root / "images" / name)
        result = [{"type": "polygonlabels", "from_name": "label", "to_name": "image", "original_width": WIDTH,
                   "original_height": HEIGHT, "image_rotation": 0, "value": {
                       "points": [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners(box)], "closed": True,
                       "polygonlabels": [label]}} for label, box in boxes(i).items()]
        tasks.append({"id": i + 1, "data": {"image": f"/data/upload/1/{name}"},
                      "annotations": [{"id": i + 1, "was_cancelled": False, "result": result}]})
    write(root / "project-1.json", tasks)


def brush(mask):
    """Return the bytes of a mask as rle-pack writes RGBA: a header, then runs of equal samples with their length."""
    samples = np.repeat(np.where(mask, 255, 0).ravel(), 4)
    starts = np.flatnonzero(np.diff(samples, prepend=-1))
    bits = f"{samples.size:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for start, end in zip(starts, [*starts[1:], samples.size]):
        while start < end:
            length = min(end - start, 1 << 16)
            bits += f"1{3:02b}{length - 1:016b}{samples[start]:08b}"
            start += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k:k + 8], 2) for k in range(0, len(bits), 8)]


def label_studio_brush(root):
    tasks = []
    for i, name in enumerate(names(".jpg")):
        save(photo(i), root / "images" / name)
        result = [{"type": "brushlabels", "from_name": "tag", "to_name": "image", "original_width": WIDTH,
                   "original_height": HEIGHT, "image_rotation": 0, "origin": "manual",
                   "value": {"format": "rle", "rle": brush(ids(i) == value), "brushlabels": [label]}}
                  for value, label in enumerate(boxes(i), 1)]
        tasks.append({"id": i + 1, "data": {"image": f"/data/upload/1/0a1b2c3d-{name}"},
                      "file_upload": f"0a1b2c3d-{name}",
                      "annotations": [{"id": i + 1, "was_cancelled": False, "result": result}]})
    write(root / "project-1.json", tasks)


def label_studio_png(root):
    """Brush labels to PNG: a grey mask for each label, and a short list of the tasks for their images."""
    for i, name in enumerate(names(".jpg")):
        save(photo(i), root / "images" / name)
        for value, label in enumerate(boxes(i), 1):
            save(Image.fromarray(np.where(ids(i) == value, 255, 0).astype(np.uint8)),
                 root / f"task-{i + 1}-annotation-{i + 1}-by-1-tag-{label}-0.png")
    write(root / "project-1-min.json", [
        {"id": i, "image": f"/data/upload/1/0a1b2c3d-{name}", "annotation_id": i, "annotator": 1}
        for i, name in enumerate(names(".jpg"), 1)])


def supervisely(root):
    write(root / "meta.json", {"classes": [{"title": name, "shape": "polygon", "color": "#FF0000"}
                                           for name in ("cat", "dog")], "tags": [], "projectType": "images"})
    for i, name in enumerate(names(".jpg")):
        save(photo(i), root / "ds0/img" / name)
        objects = [{"classTitle": label, "geometryType": "polygon",
                    "points": {"exterior": corners(box), "interior": []}} for label, box in boxes(i).items()]
        write(root / "ds0/ann" / f"{name}.json", {"description": "", "tags": [], "objects": objects,
                                                  "size": {"height": HEIGHT, "width": WIDTH}})


def voc_folder(root):
    for i, name in enumerate(names()):
        save(photo(i), root / "JPEGImages" / f"{name}.jpg")
        mask = Image.fromarray(ids(i))
        mask.putpalette(sum(map(list, COLOURS.values()), []))
        save(mask, root / "SegmentationClass" / f"{name}.png")
    write(root / "class_names.txt", "background\ncat\ndog\n")


def paired_masks(root, values=(0, 1, 2), lines=("background", "cat", "dog")):
    """Masks beside the images; ``values`` are those of the three classes in the masks."""
    for i, name in enumerate(names()):
        save(photo(i), root / f"{name}.jpg")
        save(Image.fromarray(np.array(values, np.uint8)[ids(i)]), root / f"{name}_mask.png")
    write(root / "classes.txt", "\n".join(lines) + "\n")


def folders(root, values, *lines):
    """Images and masks in two folders; ``values`` are those of the three classes in the masks, grey or RGB."""
    for i, name in enumerate(names()):
        save(photo(i), root / "images" / f"{name}.jpg")
        save(Image.fromarray(np.array(values, np.uint8)[ids(i)]), root / "masks" / f"{name}.png")
    write(root / "classes.txt", "\n".join(lines) + "\n")


def rgb_colours(root):
    folders(root, list(COLOURS.values()), "background #000000", "cat #c82828", "dog #2828c8")


def black_and_white(root):
    folders(root, [0, 255, 255], "background #000000", "animal #ffffff")


def black_and_white_without_colours(root):
    folders(root, [0, 255, 255], "background", "animal")


def shifted_ids(root):
    paired_masks(root, (7, 8, 9))


def ids_from_1(root):
    paired_masks(root, lines=("cat", "dog"))


TWO_CLASSES, WITHOUT_ZERO = np.array([0, 1, 1]), np.array([255, 0, 1])
# export -> further arguments of `prepare auto`, and the ids that the masks are expected to have for 0, 1, 2
TOOLS = {**dict.fromkeys([labelme, coco, coco_of_roboflow, coco_of_cvat, cvat_masks, cvat_xml, roboflow_masks, yolo,
                          label_studio, label_studio_brush, label_studio_png, supervisely, voc_folder, paired_masks,
                          rgb_colours], ((), np.arange(3))),
         black_and_white: ((), TWO_CLASSES),
         black_and_white_without_colours: (("--ids", "0:0,255:1"), TWO_CLASSES),
         shifted_ids: (("--ids", "7:0,8:1,9:2"), np.arange(3)),
         ids_from_1: (("--reduce-zero-label",), WITHOUT_ZERO)}


@pytest.mark.slow
@pytest.mark.parametrize("export", TOOLS, ids=lambda export: export.__name__)
def test_from_the_export_to_a_report(command, options, export, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export(tmp_path / "export")
    more, expected = TOOLS[export]

    def do(*arguments):
        done = command(*arguments)
        assert done.code == 0, (arguments, done.out, done.err)
        return done.out

    assert "recognised" in do("prepare", "auto", "export", "animals", *more)
    masks = sorted((tmp_path / "animals").glob("masks/**/*.png"))
    assert len(masks) == COUNT
    for path in masks:
        i = int(path.stem[-2:])
        assert np.mean(np.array(Image.open(path)) != expected[ids(i)]) < 0.05, path  # the edges of polygons are rounded
    classes = [line.split("#")[0].strip() for line in (tmp_path / "animals/classes.txt").read_text().splitlines()]
    assert len(classes) == len(set(expected) - {255})
    do("check-data", "animals")
    do("train", *options, "--data", "folder:animals", "--epochs", "1", "--quiet")
    do("predict", "export", "--out", "predicted", "--quiet")
    with open("predicted/shares.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= COUNT and set(classes) <= rows[0].keys()
    do("eval", "--out", "scored", "--quiet")
    scores, = (tmp_path / "scored").glob("*/val")
    do("report", scores, "--out", "report.html")
    assert classes[-1].encode() in (tmp_path / "report.html").read_bytes()
