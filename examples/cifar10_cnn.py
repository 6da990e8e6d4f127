"""The paper's CNN on CIFAR-10: figures 1(b), 2(b), 3(b) and 4(b), by appendix B.2.

    python examples/cifar10_cnn.py --figure 1
    python examples/cifar10_cnn.py --figure 3

The network has three convolutions of width 5 with 16, 20 and 20 channels, and then 10
outputs. After each convolution come ReLU and max-pooling of width 2. Initialisation is
Xavier, and pixels are in [−1, 1]. It trains by SGD on batches of 100, which are
reshuffled in each epoch. Momentum is 0.9 in figures 1 to 3 and 0 in figure 4. The L2
coefficient λ is 0.01 on all weights.

Each command writes a JSON file and a picture. It takes a few minutes at its default
`--scale`, which is the fraction of the paper's epochs. The paper's own protocol is
`--scale 1 --seeds 16`. Figures 2 and 3 come from one run, which starts from the end of
figure 1.
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
    # This makes convolutions twice as fast and is not the default on every CPU. The
    # processes that train start later and read it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    main(PROTOCOL, __doc__)
