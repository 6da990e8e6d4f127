"""The paper's MLP on MNIST: figures 1(a), 2(a), 3(a) and 4(a), by appendix B.1.

    python examples/mnist_mlp.py --figure 1
    python examples/mnist_mlp.py --figure 3

The network is 784-200-200-10 with ReLU and Xavier initialisation. Pixels have mean 0
and variance 1. It trains by SGD without momentum on batches of 100, which are
reshuffled in each epoch. The L2 coefficient λ is 0.01 on all weights.

Each command writes a JSON file and a picture. It takes a few minutes at its default
`--scale`, which is the fraction of the paper's epochs. The paper's own protocol is
`--scale 1 --seeds 4`. Figures 2 and 3 come from one run, which starts from the end of
figure 1.
"""

from command_line import main
from protocol import Protocol


def network():
    """The network of appendix B.1."""
    import keras

    dense = keras.layers.Dense
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            dense(200, activation="relu", kernel_initializer="glorot_normal"),
            dense(200, activation="relu", kernel_initializer="glorot_normal"),
            dense(10, activation="softmax", kernel_initializer="glorot_normal"),
        ]
    )


PROTOCOL = Protocol(
    name="mnist_mlp",
    title="MLP on MNIST",
    dataset="mnist",
    normalize="variance",
    network=network,
    momentum=0.0,
    stages=((0.05, 500), (0.02, 500), (0.01, 500), (0.005, 1000), (0.003, 1000)),
    seeds=4,
    default_scale={1: 0.2, 2: 0.03, 3: 0.03, 4: 0.1},
    default_seeds=2,
)


if __name__ == "__main__":
    main(PROTOCOL, __doc__)
