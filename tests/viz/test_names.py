"""Class names on regions: inside, readable, one a region."""
import cv2
import numpy as np
import pytest

from mxnetseg.errors import UsageError
from mxnetseg.viz.names import draw_names, place_names

CLASSES = ("background", "road", "car", "traffic light")


def a_map(height=200, width=300):
    class_map = np.full((height, width), 1, np.uint8)
    class_map[20:90, 30:130] = 2
    class_map[20:90, 170:280] = 2
    class_map[120:126, 20:200] = 3  # too thin
    class_map[140:, 200:] = 0
    class_map[:4] = 255
    return class_map


def test_a_name_for_each_region_with_room_inside_it():
    class_map = a_map()
    placed = list(place_names(class_map, CLASSES))
    assert sorted(one.class_id for one in placed) == [1, 2, 2]
    for one in placed:
        left, top, right, bottom = one.box
        assert right - left > 10 and bottom - top >= 8
        assert (class_map[top:bottom, left:right] == one.class_id).all()
        assert one.label.text == CLASSES[one.class_id]


def test_the_letters_lie_in_their_box():
    class_map = a_map()
    image = np.full((*class_map.shape, 3), 120, np.uint8)
    drawn = draw_names(image, class_map, CLASSES)
    changed = (drawn != image).any(axis=2)
    inside = np.zeros_like(changed)
    for one in place_names(class_map, CLASSES):
        left, top, right, bottom = one.box
        assert changed[top:bottom, left:right].mean() > 0.2
        inside[top:bottom, left:right] = True
    assert not (changed & ~inside).any() and (image == 120).all()


def test_the_middle_of_a_round_region():
    class_map = np.zeros((300, 300), np.uint8)
    cv2.circle(class_map, (180, 110), 60, 2, -1)
    [one] = place_names(class_map, CLASSES)
    left, top, right, bottom = one.box
    assert abs((left + right) / 2 - 180) <= 2 and abs((top + bottom) / 2 - 110) <= 2


def test_a_region_with_a_hole_in_its_middle():
    class_map = np.zeros((200, 400), np.uint8)
    cv2.rectangle(class_map, (20, 20), (380, 180), 1, -1)
    cv2.rectangle(class_map, (120, 60), (280, 140), 0, -1)
    [one] = place_names(class_map, CLASSES)
    left, top, right, bottom = one.box
    assert (class_map[top:bottom, left:right] == 1).all()


def test_a_smaller_type_before_none():
    sizes = set()
    for width in range(30, 120, 5):
        class_map = np.zeros((600, 1200), np.uint8)
        class_map[100:150, 100:100 + width] = 1
        sizes.update(one.label.font.size for one in place_names(class_map, CLASSES))
    assert len(sizes) == 3


@pytest.mark.parametrize("level, letters", [(0, 255), (60, 255), (200, 0), (255, 0)])
def test_letters_contrast_with_what_is_below_and_with_their_outline(level, letters):
    image = np.full((100, 200, 3), level, np.uint8)
    drawn = draw_names(image, np.ones((100, 200), np.uint8), CLASSES)
    assert (drawn == letters).any() and (drawn == 255 - letters).any()


def test_only_background_or_ignored_or_tiny():
    for content in (0, 255, 1):
        image = np.zeros((5, 5, 3), np.uint8)
        assert (draw_names(image, np.full((5, 5), content, np.uint8), CLASSES) == 0).all()


def test_sizes_must_agree():
    with pytest.raises(UsageError, match="differ in size"):
        draw_names(np.zeros((5, 6, 3), np.uint8), np.zeros((6, 5), np.uint8), CLASSES)


def test_many_regions_of_a_large_map_take_little_time():
    class_map = (np.indices((2000, 3000)).sum(axis=0) // 9 % 3).astype(np.uint8)
    assert list(place_names(class_map, CLASSES)) == []
