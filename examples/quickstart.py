"""Train a network on real digits and let FDR1 cut its learning rate.

    python examples/quickstart.py

This takes well under a minute on two cores. The progress bar shows two columns.
`fdr_ratio` is the ratio of the two sides of FDR1, the paper's first relation. When it
is close to 1, the learning rate has done its work and is cut. `fdr_noise_loss` is about
what a cut would earn.
"""

import argparse
from pathlib import Path

from data import NAMES, load


def main():
    """Trains, prints the cuts, and writes two pictures and a report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dataset", choices=NAMES, default="digits", help="what to learn"
    )
    parser.add_argument(
        "--data-dir", help="folder in which tensorflow-datasets keeps its data"
    )
    parser.add_argument(
        "--epochs", type=int, default=100, help="how many epochs to train"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("."), help="folder for the pictures"
    )
    args = parser.parse_args()
    # `--help` need not wait for TensorFlow, which takes seconds to import.
    import keras

    from keras_fdr import FDRSGD, FDRCallback, fdr_report, plots, shuffled_batches

    keras.utils.set_random_seed(0)
    train, test = load(args.dataset, args.data_dir)
    model = keras.Sequential(
        [
            keras.Input(train[0].shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=FDRSGD(learning_rate=0.05, momentum=0.9, l2=0.01),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    callback = FDRCallback(factor=0.5, verbose=1)
    model.fit(
        shuffled_batches(*train, batch_size=32, seed=0),
        epochs=args.epochs,
        shuffle=False,
        validation_data=test,
        callbacks=[callback],
    )

    print(f"\n{len(callback.cuts)} cuts:")
    for cut in callback.cuts:
        print(f"  {cut.reason}")
    print(f"Now: {callback.verdict.reason}")
    args.output.mkdir(parents=True, exist_ok=True)
    schedule = args.output / "quickstart_schedule.png"
    equilibration = args.output / "quickstart_equilibration.png"
    plots.schedule(callback, schedule, args.dataset)
    plots.equilibration(callback, equilibration, "Since the last cut")
    report = fdr_report(callback, args.output / "quickstart_report.html")
    print(f"Wrote {schedule}, {equilibration} and {report}")


if __name__ == "__main__":
    main()
