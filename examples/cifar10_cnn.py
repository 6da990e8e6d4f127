"""The paper's CNN on CIFAR-10: figures 1(b), 2(b), 3(b) and 4(b), by appendix B.2.

    python examples/cifar10_cnn.py --figure 1
    python examples/cifar10_cnn.py --figure 3

Three convolutions of width 5 with 16, 20 and 20 channels, each with ReLU and
max-pooling of width 2, then 10 outputs; Xavier initialisation, pixels in [−1, 1],
batches of 100 reshuffled each epoch, λ = 0.01 on all weights; SGD with momentum 0.9 in
figures 1 to 3 and without in figure 4. Each command takes minutes at its default
`--scale`, the fraction of the paper's epochs, and writes a JSON file and a picture;
`--scale 1 --seeds 16` is the paper. Figures 2 and 3 come from one run, which goes on
from the end of figure 1.
"""

import os

from command_line import main
from protocol import Protocol


def network():
    """The network of appendix B.2."""
    import keras

    layers = []
    for channels in (16, 20, 20):
        # The paper's padding of 2 is "same" at width 5 and stride 1.
        layers += [
            keras.layers.Conv2D(
                channels,
                5,
                padding="same",
                activation="relu",
                kernel_initializer="glorot_normal",
            ),
            keras.layers.MaxPooling2D(2),
        ]
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            *layers,
            keras.layers.Flatten(),
            keras.layers.Dense(
                10, activation="softmax", kernel_initializer="glorot_normal"
            ),
        ]
    )


PROTOCOL = Protocol(
    name="cifar10_cnn",
    title="CNN on CIFAR-10",
    dataset="cifar10",
    normalize="range",
    network=network,
    momentum=0.9,
    stages=(
        (0.05, 200),
        (0.02, 200),
        (0.01, 200),
        (0.005, 400),
        (0.003, 400),
        (0.002, 400),
        (0.0015, 400),
        (0.001, 400),
        (0.0005, 800),
        (0.00025, 800),
        (0.0001, 800),
    ),
    seeds=16,
    default_scale={1: 0.2, 2: 0.005, 3: 0.005, 4: 0.04},
    default_seeds=2,
    default_examples={1: 10_000, 2: 3_000, 3: 3_000, 4: 10_000},
)


if __name__ == "__main__":
    # Twice as fast on convolutions, and not the default on every CPU; for the processes
    # that train, which begin after this.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    main(PROTOCOL, __doc__)
