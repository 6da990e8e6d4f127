"""Read the loss landscape from SGD's own noise: FDR2, figures 2 and 3 of the paper.

    python examples/landscape.py
    python examples/landscape.py --dataset mnist

The first takes about two minutes on two cores: a small network on real digits, five
learning rates, eight seeds. The second is the MLP of appendix B.1 at a tenth of the
paper's epochs (`--scale`), four seeds, SGD without momentum. `--mode paper` shuffles
the data once an epoch, as the paper does, and shows the bias of that beside the
unbiased run where both are in `--output`. A run that was stopped goes on from its last
finished stage.
"""

import argparse
from pathlib import Path

import keras
from data import load

from keras_fdr import FDRSGD, landscape, plots

MODES = ("independent", "paper")
# (η, epochs) of the initial run, then of the stages; seeds; |B|; λ; hidden layers.
PROTOCOLS = {
    "digits": {
        "initial": (0.2, 60),
        "stages": [(0.1, 60), (0.05, 100), (0.02, 150), (0.01, 250), (0.005, 400)],
        "seeds": 8,
        "batch_size": 32,
        "l2": 0.05,
        "hidden": [32],
        "activation": "tanh",
    },
    "mnist": {
        "initial": (0.1, 100),
        "stages": [(0.05, 500), (0.02, 500), (0.01, 500), (0.005, 1000), (0.003, 1000)],
        "seeds": 4,
        "batch_size": 100,
        "l2": 0.01,
        "hidden": [200, 200],
        "activation": "relu",
    },
}


def build_model(hidden, activation, l2, input_shape):
    """A multilayer perceptron, compiled for SGD without momentum."""
    layers = [keras.Input(input_shape), keras.layers.Flatten()]
    for units in hidden:
        layers.append(
            keras.layers.Dense(
                units, activation=activation, kernel_initializer="glorot_normal"
            )
        )
    model = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
    model.compile(
        optimizer=FDRSGD(l2=l2),
        loss="sparse_categorical_crossentropy",
        jit_compile=True,
    )
    return model


def main():
    """Runs the protocol, prints what it found and draws figures 2 and 3."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=PROTOCOLS, default="digits")
    parser.add_argument("--mode", choices=MODES, default="independent")
    parser.add_argument("--scale", type=float, help="fraction of the epochs")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets")
    parser.add_argument("--output", type=Path, default=Path("."))
    args = parser.parse_args()

    protocol = PROTOCOLS[args.dataset]
    scale = args.scale or (0.1 if args.dataset == "mnist" else 1.0)

    def scaled(stage):
        learning_rate, epochs = stage
        return learning_rate, max(3, round(scale * epochs))

    keras.utils.set_random_seed(0)
    (x, y), _ = load(args.dataset, args.data_dir)
    model = build_model(
        protocol["hidden"], protocol["activation"], protocol["l2"], x.shape[1:]
    )
    results = landscape.sweep(
        model,
        (x, y),
        stages=[scaled(stage) for stage in protocol["stages"]],
        seeds=args.seeds or protocol["seeds"],
        batch_size=protocol["batch_size"],
        initial=scaled(protocol["initial"]),
        mode=args.mode,
        directory=args.output / f"landscape_{args.dataset}_{args.mode}",
    )
    found = landscape.fit(results)
    print(f"\n{found}")

    finished = {
        mode: landscape.fit(table)
        for mode in MODES
        if (table := args.output / f"landscape_{args.dataset}_{mode}").exists()
    }
    figure2 = args.output / f"landscape_{args.dataset}_figure2.png"
    figure3 = args.output / f"landscape_{args.dataset}_figure3.png"
    title = f"MLP on {args.dataset}"
    if scale != 1:
        title += f", epochs scaled by {scale:g}"
    plots.sequential_runs(results, path=figure2, title=title)
    plots.landscape(finished, figure3, title)
    print(f"Wrote {figure2} and {figure3}")


if __name__ == "__main__":
    main()
