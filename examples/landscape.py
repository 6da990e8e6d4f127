"""Read the loss landscape from SGD's own noise: FDR2, figures 2 and 3 of the paper.

    python examples/landscape.py

takes about two minutes on two cores: a small network on real digits, five learning
rates, eight seeds. `--mode paper` shuffles the data once an epoch, as the paper does,
and shows the bias of that beside the unbiased run where both are in `--output`. A run
that was stopped goes on from its last finished stage. The paper's own models are in
`mnist_mlp.py` and `cifar10_cnn.py`.
"""

import argparse
from pathlib import Path

from data import load

MODES = ("independent", "paper")
# (η, epochs).
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
    parser.add_argument("--mode", choices=MODES, default="independent")
    parser.add_argument("--scale", type=float, default=1.0, help="of the epochs")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("."))
    args = parser.parse_args()
    # TensorFlow takes seconds to import, for which `--help` need not wait.
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
