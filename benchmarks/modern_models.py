"""Networks and data of `modern_networks.py`."""

import functools
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.kept import load

BATCH_SIZE = 128
HELD_OUT = 5_000
layers = keras.layers


def mlp(shape):
    """One hidden layer of 100 units."""
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(10),
        ]
    )


def _conv_bn(x, filters, strides=1, relu=True, size=3):
    x = layers.Conv2D(filters, size, strides, "same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x) if relu else x


def cnn(shape):
    """Three convolutions with batch normalisation, 16 to 64 filters."""
    inputs = x = keras.Input(shape)
    for filters in (16, 32, 64):
        x = layers.MaxPooling2D()(_conv_bn(x, filters))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def resnet(shape, blocks):
    """The ResNet for CIFAR-10 of He et al. (2016), of 6 `blocks` + 2 layers."""
    inputs = keras.Input(shape)
    x = _conv_bn(inputs, 16)
    for filters in (16, 32, 64):
        for block in range(blocks):
            strides = 2 if filters > 16 and block == 0 else 1
            y = _conv_bn(_conv_bn(x, filters, strides), filters, relu=False)
            if strides == 2:
                x = _conv_bn(x, filters, strides, relu=False, size=1)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


# The first learning rate of SGD goes with the network.
NETWORKS = {
    "mlp": (mlp, 0.05),
    "cnn": (cnn, 0.1),
    "resnet8": (functools.partial(resnet, blocks=1), 0.1),
    "resnet20": (functools.partial(resnet, blocks=3), 0.1),
}


def make(network, dataset):
    """A network that is not compiled."""
    shape = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}[dataset]
    return NETWORKS[network][0](shape)


@functools.cache
def _load(dataset, data_dir):
    file = Path(data_dir or ".") / f"{dataset}.npz"
    if not file.exists():
        return load(dataset, data_dir)
    with np.load(file) as kept:
        x, y = kept["x"], kept["y"]
        if "x_test" in kept:
            x_test, y_test = kept["x_test"], kept["y_test"]
        else:
            x, x_test = np.split(x, [-HELD_OUT])
            y, y_test = np.split(y, [-HELD_OUT])
    shift, scale = np.float32(x.mean()), np.float32(x.std())

    def scaled(images):
        return (images.astype("float32") - shift) / scale

    return (scaled(x), y), (scaled(x_test), y_test)


def images(dataset, examples, data_dir):
    """Training images, held-out images and test images, each with labels.

    Args:
        dataset: `"mnist"` or `"cifar10"`.
        examples: Integer, of the training images, or `None`: all but the held-out.
        data_dir: Folder of tensorflow-datasets, or `None`; or a folder with
            `mnist.npz` and `cifar10.npz`: uint8 arrays `x`, `y`, `x_test`, `y_test`.
            Without the last two, the last 5,000 of the others are the test images.
    """
    (x, y), test = _load(dataset, data_dir)
    held_out = x[-HELD_OUT:], y[-HELD_OUT:]
    stop = examples or -HELD_OUT
    return (x[:stop], y[:stop]), held_out, test


def batches(model, x, y, seed, augment):
    """Batches whose order and augmentation depend on the seed and the epoch only.

    What does not fill a batch is left out.

    Args:
        model: The compiled model; its steps tell the epoch.
        x: Array of images.
        y: Array of labels.
        seed: Integer.
        augment: Boolean, whether images are shifted by up to 4 pixels and mirrored,
            anew in each epoch.

    Returns:
        A `tf.data.Dataset`, for `fit(shuffle=False)`.
    """
    steps = len(x) // BATCH_SIZE
    x, y = tf.constant(x), tf.constant(y)
    iterations = model.optimizer.iterations.value

    def order(_):
        epoch = tf.cast(iterations // steps, tf.int32)
        indices = tf.random.experimental.stateless_shuffle(
            tf.range(len(x)), seed=tf.stack([seed, epoch])
        )
        chosen = tf.reshape(indices[: steps * BATCH_SIZE], (steps, BATCH_SIZE))
        step = epoch * steps + tf.range(steps)
        return tf.data.Dataset.from_tensor_slices((chosen, step))

    def batch(chosen, step):
        some = tf.gather(x, chosen)
        if augment:
            some = shifted(some, tf.stack([seed, step]))
        return some, tf.gather(y, chosen)

    data = tf.data.Dataset.range(1).flat_map(order)
    data = data.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return data.prefetch(4).apply(tf.data.experimental.assert_cardinality(steps))


def shifted(some, seed, reach=4):
    """Images shifted by up to `reach` pixels each way, half of them mirrored."""
    count, size = some.shape[0], some.shape[1]
    shift = tf.random.stateless_uniform((2, count), seed, 0, 2 * reach + 1, tf.int32)
    mirrored = (
        tf.random.stateless_uniform((count,), seed + tf.constant([1 << 20, 0])) < 0.5
    )
    padded = tf.pad(some, [[0, 0], [reach, reach], [reach, reach], [0, 0]])
    rows = shift[0, :, None] + tf.range(size)
    columns = shift[1, :, None] + tf.range(size)
    columns = tf.where(mirrored[:, None], columns[:, ::-1], columns)
    some = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(some, columns, axis=2, batch_dims=1)
