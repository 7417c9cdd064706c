"""Reading of files, and the error for each kind of damage."""
import json
import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mxnetseg.data import get_dataset_class, list_datasets
from mxnetseg.data.base import IGNORE, Pair, SegDataset, list_files, read_image, read_list, read_mask, voc_palette
from mxnetseg.data.prepare import PREPARATIONS
from mxnetseg.errors import DataError, DataNotFoundError, UnknownNameError


class Mapped(SegDataset):
    """Three ids in the files become two classes; 9 is ignored."""

    name = "Mapped"
    splits = ("train", "val")
    classes = ("a", "b")
    palette = np.array([(1, 2, 3), (4, 5, 6)], np.uint8)
    label_map = {7: 0, 5: 0, 8: 1, 9: IGNORE}
    subdir = "Group/Mapped"
    markers = ("img",)
    layout = "<root>/img/NAME.png"

    def find_pairs(self):
        return [Pair(f.stem, f, self.root / "lab" / f.name) for f in sorted((self.root / "img").glob("*.png"))]


@pytest.fixture
def mapped(tmp_path, write):
    root = tmp_path / "data" / "Group" / "Mapped"
    write(root / "img" / "x.png")
    write(root / "lab" / "x.png", np.repeat(np.array([[5, 7, 8, 9, 255, 5, 5, 8]], np.uint8), 24, 0).repeat(4, 1))
    return root


# ---- images

def test_image_is_rgb(tmp_path, write):
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0] = 200
    assert np.array_equal(read_image(write(tmp_path / "x.png", image)), image)


@pytest.mark.parametrize("array", [
    np.full((4, 6), 90, np.uint8),
    np.full((4, 6, 4), (90, 90, 90, 255), np.uint8),
], ids=["grey", "opaque alpha"])
def test_other_images_become_rgb(tmp_path, write, array):
    image = read_image(write(tmp_path / "x.png", array))
    assert image.shape == (4, 6, 3) and image.dtype == np.uint8 and (image == 90).all()


def test_any_file_name_is_accepted(tmp_path, write):
    assert read_image(write(tmp_path / "Straße ü 雪.png")).shape == (24, 32, 3)


@pytest.mark.parametrize("end", [".jpg", ".png"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, -40], ids=["nothing", "10 bytes", "half", "all but 40 bytes"])
def test_truncated_image(tmp_path, rng, end, keep):
    path = tmp_path / f"x{end}"
    Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * keep) if keep == 0.5 else keep])
    with pytest.raises(DataError) as error:
        read_image(path)
    assert error.value.where == path and "bytes" in error.value.received and error.value.fix


def test_missing_image(tmp_path):
    with pytest.raises(DataNotFoundError, match="no such image"):
        read_image(tmp_path / "x.png")


def test_folder_instead_of_image(tmp_path):
    with pytest.raises(DataError) as error:
        read_image(tmp_path)
    assert error.value.where == tmp_path


# ---- masks

IDS = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 4


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_mask_is_read_as_indices(tmp_path, bits):
    ids = IDS % 2 if bits == 1 else IDS
    image = Image.fromarray(ids)
    image.putpalette(voc_palette(256)[::-1].tobytes())
    image.save(tmp_path / "m.png", bits=bits)
    assert np.array_equal(read_mask(tmp_path / "m.png"), ids)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_mask_of_few_bits_keeps_its_ids(tmp_path, bits):
    # Pillow writes only 8-bit grey images, so the file is made by hand; it reads 2 and 4 bits stretched to 8
    ids = IDS % 2 if bits == 1 else IDS
    rows = b"".join(b"\0" + np.packbits(((ids[y, :, None] >> np.arange(bits)[::-1]) & 1).ravel()).tobytes()
                    for y in range(ids.shape[0]))

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 32, 24, bits, 0, 0, 0, 0)
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
                                     + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert np.array_equal(read_mask(tmp_path / "m.png"), ids)


def test_rgb_mask_lists_its_colors_with_a_block_to_paste(tmp_path, write):
    mask = np.zeros((4, 6, 3), np.uint8)
    mask[:, :4] = (128, 64, 128)
    path = write(tmp_path / "m.png", mask)
    with pytest.raises(DataError, match="RGB image") as error:
        read_mask(path)
    assert error.value.where == path
    assert "#804080 (16 pixels), #000000 (8 pixels)" in error.value.received
    assert error.value.fix.endswith("class0 #804080\nclass1 #000000")


def test_rgb_mask_by_its_colors(tmp_path, write):
    colors = np.array([(128, 64, 128), (0, 0, 255), (10, 20, 30)], np.uint8)
    ids = IDS % 3
    mask = colors[ids]
    mask[0, 0] = 0  # black is not a class here: ignore
    ids[0, 0] = IGNORE
    assert np.array_equal(read_mask(write(tmp_path / "m.png", mask), colors=colors), ids)


def test_rgb_mask_with_a_color_of_no_class(tmp_path, write):
    mask = np.zeros((4, 6, 3), np.uint8)
    mask[0, :3] = (1, 2, 3)
    with pytest.raises(DataError, match="belong to no class") as error:
        read_mask(write(tmp_path / "m.png", mask), colors=np.array([(9, 9, 9)], np.uint8))
    assert error.value.received.endswith("#010203 (3 pixels)")


@pytest.mark.parametrize("array", [np.full((4, 6), 300, np.uint16), np.full((4, 6), 300, np.int32),
                                   np.full((4, 6), 3, np.float32)], ids=["16 bits", "32 bits", "float"])
def test_mask_of_more_than_8_bits(tmp_path, write, array):
    path = write(tmp_path / "m.tif", array)
    with pytest.raises(DataError, match="8 bits") as error:
        read_mask(path)
    assert error.value.where == path and "values 3" in error.value.received and "uint8" in error.value.fix


def test_jpeg_mask_named_png(tmp_path):
    Image.fromarray(IDS).save(tmp_path / "m.png", format="JPEG")
    with pytest.raises(DataError, match="JPEG"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("spoil", [
    lambda data: b"", lambda data: b"not an image", lambda data: data[:len(data) // 2],
    lambda data: data[:-30] + bytes([data[-30] ^ 16]) + data[-29:],
], ids=["empty", "text", "truncated", "bit flipped"])
def test_damaged_mask(tmp_path, rng, spoil):
    path = tmp_path / "m.png"
    Image.fromarray(rng.integers(0, 9, (40, 50), dtype=np.uint8)).save(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError) as error:
        read_mask(path)
    assert error.value.where == path and error.value.fix


# ---- the data set

def test_labels_are_mapped_once(mapped):
    sample = Mapped(root=mapped)[0]
    assert sample.mask[0, ::4].tolist() == [0, 0, 1, IGNORE, IGNORE, 0, 0, 1]
    assert sample.mask.dtype == np.uint8 and sample.name == "x"


def test_train_ids_become_the_ids_of_the_files(mapped):
    raw = Mapped(root=mapped).to_raw_ids(np.array([[0, 1, IGNORE]]))
    assert raw.tolist() == [[5, 8, 9]] and raw.dtype == np.uint8  # the smaller one of 5 and 7


@pytest.mark.parametrize("value", [2, 200, -1])
def test_a_class_map_of_another_network_is_refused(mapped, value):
    with pytest.raises(DataError, match="not train ids") as error:
        Mapped(root=mapped).to_raw_ids(np.array([0, value, value]))
    assert f"{value} (2 pixels)" in error.value.received


def test_info_fits_json(mapped):
    info = json.loads(json.dumps(Mapped(root=mapped).info()))
    assert info == {"name": "Mapped", "classes": ["a", "b"], "palette": [[1, 2, 3], [4, 5, 6]], "ignore": 255,
                    "raw_ids": [5, 8]}


def test_label_outside_the_classes(mapped, write):
    mask = np.full((24, 32), 8, np.uint8)
    mask[0, :5] = 6
    path = write(mapped / "lab" / "x.png", mask)
    with pytest.raises(DataError, match="labels outside the classes") as error:
        _ = Mapped(root=mapped)[0]
    assert error.value.where == path and error.value.fix
    assert error.value.received == "6 (5 pixels); known ids are 5, 7..9, ignore is 255"


@pytest.mark.parametrize("shape, hint", [((32, 24), "EXIF"), ((12, 16), "nearest")])
def test_sizes_that_differ(mapped, write, shape, hint):
    write(mapped / "lab" / "x.png", np.full(shape, 8, np.uint8))
    with pytest.raises(DataError, match="differ in size") as error:
        _ = Mapped(root=mapped)[0]
    assert "image 32 x 24" in error.value.received and hint in error.value.fix
    assert all(str(mapped / part / "x.png") in error.value.where for part in ("img", "lab"))


def test_exif_rotation_is_applied(mapped, rng):
    image = Image.fromarray(rng.integers(0, 256, (32, 24, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # a rotation by 90 degrees
    image.save(mapped / "img" / "x.png", exif=exif)
    cv2_version = tuple(int(v) for v in cv2.__version__.split(".")[:2])
    if cv2_version < (4, 7):
        pytest.skip("OpenCV reads no EXIF of PNG files before 4.7")
    assert Mapped(root=mapped)[0].image.shape == (24, 32, 3)


def test_missing_mask_is_found_on_opening(mapped):
    (mapped / "lab" / "x.png").unlink()
    with pytest.raises(DataNotFoundError, match="1 of the files") as error:
        Mapped(root=mapped)
    assert error.value.where == str(mapped / "lab" / "x.png") and Mapped.layout in error.value.fix


def test_empty_split(mapped):
    (mapped / "img" / "x.png").unlink()
    with pytest.raises(DataError, match="is empty") as error:
        Mapped(root=mapped)
    assert Mapped.layout in error.value.fix


def test_unknown_split(mapped):
    with pytest.raises(UnknownNameError, match="did you mean 'train'"):
        Mapped(split="trian", root=mapped)


@pytest.mark.parametrize("above", [0, 1, 2])
def test_root_may_be_a_parent_folder(mapped, above):
    assert Mapped(root=[mapped, *mapped.parents][above]).root == mapped


def test_root_from_the_environment(mapped, monkeypatch):
    monkeypatch.setenv("MXNETSEG_DATA", str(mapped.parents[1]))
    assert Mapped().root == mapped


def test_root_from_the_working_directory(mapped, monkeypatch, tmp_path):
    mapped.parents[1].rename(tmp_path / "dataset")
    monkeypatch.chdir(tmp_path)
    assert Mapped().root.resolve() == tmp_path / "dataset" / "Group" / "Mapped"


def test_only_the_given_root_is_searched(mapped, monkeypatch, tmp_path):
    monkeypatch.setenv("MXNETSEG_DATA", str(mapped.parents[1]))
    with pytest.raises(DataNotFoundError):
        Mapped(root=tmp_path / "elsewhere")


def test_error_names_the_folders_searched_and_the_missing_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MXNETSEG_DATA", str(tmp_path / "env"))
    (tmp_path / "env" / "Group" / "Mapped").mkdir(parents=True)
    with pytest.raises(DataNotFoundError) as error:
        Mapped()
    assert error.value.exit_code == 2
    assert f"{tmp_path / 'env' / 'Group' / 'Mapped'}  (it lacks img)" in error.value.where
    assert f"{tmp_path / 'dataset' / 'Group' / 'Mapped'}  (no such folder)" in error.value.where
    assert Mapped.layout in error.value.fix


# ---- preparation

def test_a_prepared_data_set_declares_the_sources_of_its_preparation():
    prepared = [cls for cls in map(get_dataset_class, list_datasets()) if cls.prepared_by]
    assert len(prepared) >= 5
    for cls in prepared:
        assert cls.prepared_from == PREPARATIONS.get(cls.prepared_by).needs
        assert cls.preparation() == f"mxnetseg prepare {cls.prepared_by} SRC DST, where SRC holds {cls.prepared_from}"


def test_an_error_without_data_does_not_import_the_preparations(tmp_path):
    code = """if True:
        import sys
        from mxnetseg.data import get_dataset
        from mxnetseg.errors import DataNotFoundError
        try:
            get_dataset("nyuv2", root=sys.argv[1])
        except DataNotFoundError as error:
            assert "mxnetseg prepare nyuv2 SRC DST, where SRC holds nyu_depth" in error.fix
            sys.exit("mxnetseg.data.prepare" in sys.modules)
        """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment).returncode == 0


# ---- lists and colours

def test_list_is_read_without_blank_lines(tmp_path):
    (tmp_path / "l.txt").write_bytes("\ufeffa b\r\n\r\n  ü \n".encode())
    assert read_list(tmp_path / "l.txt") == ["a b", "ü"]


@pytest.mark.parametrize("data, what", [(b" \n\n", "empty"), (b"\xff\xfe\x00", "cannot be read")])
def test_bad_list(tmp_path, data, what):
    (tmp_path / "l.txt").write_bytes(data)
    with pytest.raises(DataError, match=what) as error:
        read_list(tmp_path / "l.txt")
    assert error.value.where == tmp_path / "l.txt"


def test_voc_palette():
    assert voc_palette(9).tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128],
                                       [128, 0, 128], [0, 128, 128], [128, 128, 128], [64, 0, 0]]
    assert len(np.unique(voc_palette(256), axis=0)) == 256


def test_files_below_a_folder(tmp_path, write):
    for name in ("b/2.png", "b/1.PNG", "a-1/x.png", "a/x.png", "a/deep/y.jpg", ".g/z.png", "a/.hidden.png", "a/n.txt"):
        write(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).write_text("")
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nothing.png")
    found = [path.relative_to(tmp_path).as_posix() for path in list_files(tmp_path, (".png", ".jpg"))]
    # a broken link is listed, so that the data set reports a missing file
    assert found == ["a/deep/y.jpg", "a/gone.png", "a/x.png", "a-1/x.png", "b/1.PNG", "b/2.png"]
    assert list_files(tmp_path / "nowhere", (".png",)) == []
