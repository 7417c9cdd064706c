"""Random class maps, for tests of metrics."""
import numpy as np
from hypothesis import strategies as st


@st.composite
def label_and_prediction(draw, most=12):
    """Draw a label map, (H, W) uint8 with ignored pixels, a prediction of its shape, and their number of classes."""
    nclass = draw(st.integers(2, 4))
    height, width = draw(st.integers(1, most)), draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    block = draw(st.integers(1, 4))  # side of the squares of one class, so that there are regions to find

    def painted(values):
        small = rng.choice(values, (-(-height // block), -(-width // block)))
        return np.kron(small, np.ones((block, block), int))[:height, :width].astype(np.uint8)

    label = painted([*range(nclass), 255])
    pred = np.where(rng.random(label.shape) < draw(st.sampled_from([0.0, 0.5, 0.9])), label, painted(range(nclass)))
    pred[pred == 255] = 0
    return label, pred.astype(np.uint8), nclass
