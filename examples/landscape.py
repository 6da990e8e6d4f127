"""Read the loss landscape from SGD's own noise: FDR2, figures 2 and 3 of the paper.

    python examples/landscape.py

This takes about two minutes on two cores. A small network learns real digits at five
learning rates, with eight seeds. If a run is stopped, the next one resumes after its
last finished stage.

`--mode paper` shuffles the data once an epoch, as the paper does, which biases the
result. If `--output` also has the unbiased run, the picture shows both. The paper's own
models are in `mnist_mlp.py` and `cifar10_cnn.py`.
"""

import argparse
from pathlib import Path

from data import load

MODES = ("independent", "paper")
# Pairs of a learning rate and a number of epochs.
INITIAL = (0.2, 60)
STAGES = [(0.1, 60), (0.05, 100), (0.02, 150), (0.01, 250), (0.005, 400)]
BATCH_SIZE = 32


def build_model():
    """A 64-32-10 network, compiled for SGD without momentum."""
    import keras

    from keras_fdr import FDRSGD

    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(
                32, activation="tanh", kernel_initializer="glorot_normal"
            ),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=FDRSGD(l2=0.05),
        loss="sparse_categorical_crossentropy",
        jit_compile=True,
    )
    return model


def main():
    """Runs the protocol, prints what it found and draws figures 2 and 3."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--mode", choices=MODES, default="independent", help="how to draw batches"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiplies all epochs"
    )
    parser.add_argument("--seeds", type=int, default=8, help="how many seeds to run")
    parser.add_argument(
        "--output", type=Path, default=Path("."), help="folder for all files"
    )
    args = parser.parse_args()
    # `--help` need not wait for TensorFlow, which takes seconds to import.
    import keras

    from keras_fdr import landscape, plots

    def scaled(stage):
        learning_rate, epochs = stage
        return learning_rate, max(3, round(args.scale * epochs))

    keras.utils.set_random_seed(0)
    data, _ = load("digits")
    results = landscape.sweep(
        build_model(),
        data,
        stages=[scaled(stage) for stage in STAGES],
        seeds=args.seeds,
        batch_size=BATCH_SIZE,
        initial=scaled(INITIAL),
        mode=args.mode,
        directory=args.output / f"landscape_digits_{args.mode}",
    )
    print(f"\n{landscape.fit(results)}")

    finished = {
        mode: landscape.fit(table)
        for mode in MODES
        if (table := args.output / f"landscape_digits_{mode}").exists()
    }
    figure2 = args.output / "landscape_digits_figure2.png"
    figure3 = args.output / "landscape_digits_figure3.png"
    title = "MLP on digits"
    if args.scale != 1:
        title += f", epochs scaled by {args.scale:g}"
    plots.sequential_runs(results, path=figure2, title=title)
    plots.landscape(finished, figure3, title)
    print(f"Wrote {figure2} and {figure3}")


if __name__ == "__main__":
    main()
