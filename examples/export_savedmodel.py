"""Train on real digits, export, and train on where Keras does not exist.

    python examples/export_savedmodel.py

This takes under a minute on two cores. The first process trains for some epochs and
writes a SavedModel. In a second process, neither Keras nor keras_fdr can be imported.
It loads the SavedModel, continues the training and cuts the learning rate by the
paper's rule (section 3.3).
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

BATCH_SIZE = 32
# The paper calls the threshold X and the factor 1 − Y.
THRESHOLD, FACTOR = 0.05, 0.5


def train_and_export(folder, data, epochs):
    """Trains with Keras and `FDRCallback`, then calls `export_trainer`."""
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


def train_without_keras(folder, epochs):
    """Trains on without Keras, with the schedule in five lines."""
    sys.modules["keras"] = sys.modules["keras_fdr"] = None  # Their import now fails.
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
    """Does the first part here and the second in another process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dataset", default="digits", help="a name from examples/data.py"
    )
    parser.add_argument(
        "--data-dir", help="folder in which tensorflow-datasets keeps its data"
    )
    parser.add_argument(
        "--epochs", type=int, default=40, help="how many epochs each part trains"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("."), help="folder for all files"
    )
    parser.add_argument(
        "--second", action="store_true", help="run only the second part"
    )
    args = parser.parse_args()

    folder = args.output / f"export_{args.dataset}"
    if not args.second:
        folder.mkdir(parents=True, exist_ok=True)
        train_and_export(folder, (args.dataset, args.data_dir), args.epochs)
        second = [sys.executable, __file__, *sys.argv[1:], "--second"]
        sys.stdout.flush()
        subprocess.run(second, check=True)
    else:
        train_without_keras(folder, args.epochs)


if __name__ == "__main__":
    main()
