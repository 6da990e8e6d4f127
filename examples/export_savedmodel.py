"""Train on real digits, export, and train on where Keras does not exist.

    python examples/export_savedmodel.py

takes under a minute on two cores. This process trains for some epochs and writes a
SavedModel. A fresh one, in which neither Keras nor keras_fdr can be imported, loads it,
goes on with the steps and cuts the learning rate by the paper's rule (section 3.3).
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

BATCH_SIZE = 32
THRESHOLD, FACTOR = 0.05, 0.5  # X and 1 − Y of the rule.


def train_and_export(folder, data, epochs):
    """The part with Keras: `fit` with `FDRCallback`, then `export_trainer`."""
    import keras
    from data import load

    from keras_fdr import FDRSGD, FDRCallback, export_trainer, shuffled_batches

    keras.utils.set_random_seed(0)
    train, test = load(*data)
    model = keras.Sequential(
        [
            keras.Input(train[0].shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=FDRSGD(learning_rate=0.05, momentum=0.9, l2=0.01),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    callback = FDRCallback(threshold=THRESHOLD, factor=FACTOR, verbose=1)
    batches = shuffled_batches(*train, BATCH_SIZE, seed=0)
    options = {"shuffle": False, "verbose": 0, "callbacks": [callback]}
    model.fit(batches, epochs=epochs, **options)
    export_trainer(model, folder / "trainer")
    (x, y), (x_test, y_test) = train, test
    np.savez(folder / "data.npz", x=x, y=y, x_test=x_test, y_test=y_test)
    print(f"Wrote {folder / 'trainer'} after {epochs} epochs.")


def go_on(folder, epochs):
    """The part without Keras: train steps, and the schedule in five lines."""
    sys.modules["keras"] = sys.modules["keras_fdr"] = None  # Importing them fails.
    import tensorflow as tf

    trainer = tf.saved_model.load(str(folder / "trainer"))
    data = np.load(folder / "data.npz")
    rng = np.random.default_rng(0)
    print("epoch  learning rate    loss  accuracy   ratio  test accuracy")
    for epoch in range(epochs):
        trainer.reset_metrics()
        order = rng.permutation(len(data["x"]))
        batches = np.array_split(order, len(order) // BATCH_SIZE)
        for batch in batches:
            logs = trainer.train_step(data["x"][batch], data["y"][batch])
        average = trainer.half_running_average()
        ratio = float(average["dissipation"] / average["fluctuation"])
        learning_rate = float(trainer.learning_rate())
        predicted = np.argmax(trainer.predict(data["x_test"]), axis=1)
        print(
            f"{epoch + 1:5}  {learning_rate:13.5f}  {logs['loss']:6.3f}  "
            f"{logs['accuracy']:8.3f}  {ratio:6.3f}  "
            f"{np.mean(predicted == data['y_test']):13.3f}"
        )
        if abs(ratio - 1) < THRESHOLD:
            trainer.set_learning_rate(FACTOR * learning_rate)
    trainer.full_batch_add(data["x"], data["y"])
    row = trainer.full_batch_gradient()
    norm = float(row["full_batch_gradient_norm_squared"]) ** 0.5
    print(f"Full batch: loss {row['full_batch_loss']:.4f}, |gradient| {norm:.4f}.")


def main():
    """Does the first part here and the second in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits", help="see examples/data.py")
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets")
    parser.add_argument("--epochs", type=int, default=40, help="of either part")
    parser.add_argument("--output", type=Path, default=Path("."))
    parser.add_argument("--go-on", action="store_true", help="the second part alone")
    args = parser.parse_args()

    folder = args.output / f"export_{args.dataset}"
    if not args.go_on:
        folder.mkdir(parents=True, exist_ok=True)
        train_and_export(folder, (args.dataset, args.data_dir), args.epochs)
        second = [sys.executable, __file__, *sys.argv[1:], "--go-on"]
        sys.stdout.flush()
        subprocess.run(second, check=True)
    else:
        go_on(folder, args.epochs)


if __name__ == "__main__":
    main()
