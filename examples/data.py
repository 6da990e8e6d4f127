"""Real images for the examples, as float arrays."""

import numpy as np

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10")


def load(name, data_dir=None, normalize="variance"):
    """Loads a dataset of images and labels.

    `digits` are the 1,797 handwritten digits in scikit-learn. A fifth of them is kept
    for testing. The other datasets come from tensorflow-datasets, which downloads them
    unless `data_dir` holds them.

    Args:
        name: One of `NAMES`.
        data_dir: Folder in which tensorflow-datasets keeps its data. Defaults to
            `None`, the default of tensorflow-datasets.
        normalize: `"variance"` gives all training pixels mean 0 and variance 1, as in
            appendix B.1. `"range"` makes black −1 and white 1, as in appendix B.2.
            Defaults to `"variance"`.

    Returns:
        `((x, y), (x_test, y_test))`. Images are float32 of shape
        `(N, height, width, channels)`, and labels are integers of shape `(N,)`.

    Raises:
        ValueError: If `normalize` is neither of the two.
    """
    if normalize not in ("variance", "range"):
        raise ValueError(
            f'`normalize` must be "variance" or "range". Received: {normalize!r}'
        )
    if name == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        x = x.reshape(-1, 8, 8, 1)
        order = np.random.default_rng(0).permutation(len(x))
        train, test = order[: 4 * len(x) // 5], order[4 * len(x) // 5 :]
        (x, y), (x_test, y_test) = (x[train], y[train]), (x[test], y[test])
    else:
        import tensorflow_datasets as tfds

        (x, y), (x_test, y_test) = tfds.as_numpy(
            tfds.load(
                name,
                split=["train", "test"],
                data_dir=data_dir,
                batch_size=-1,
                as_supervised=True,
            )
        )
    if normalize == "variance":
        shift, scale = x.mean(), x.std()
    else:
        white = 16 if name == "digits" else 255
        shift = scale = white / 2

    def scaled(images):
        result = np.empty(images.shape, "float32")
        # The quotient is float64, so all images at once would need much memory.
        for part in range(0, len(images), 1000):
            rows = slice(part, part + 1000)
            result[rows] = (images[rows] - shift) / scale
        return result

    return (scaled(x), y), (scaled(x_test), y_test)
