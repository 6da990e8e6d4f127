"""
Title: Train on from a SavedModel
Author: [The keras_fdr authors](https://github.com/keras-fdr/keras-fdr)
Date created: 2026/11/27
Last modified: 2026/11/27
Description: Export a training run, and continue it where Keras is not installed.
Accelerator: None
"""

"""
## Introduction

Keras' `model.export` writes a model that predicts. `keras_fdr.export_trainer` writes
one that *trains*: with its optimizer, its momentum and all that was measured so far.
The other side needs TensorFlow only. It can continue on new data, and it can keep
lowering the learning rate by the same measurement.

The measurement is a ratio of two averages. The **dissipation** says how hard the
gradient pulls the weights inward. The **fluctuation** says how hard the noise of
mini-batches drives them outward. When their ratio is 1, training has settled at the
present learning rate.
"""

"""
## Setup

The data are the 1,797 handwritten digits of scikit-learn.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

from keras_fdr import FDRSGD, FDRCallback, export_trainer, shuffled_batches

keras.utils.set_random_seed(0)
folder = Path(tempfile.mkdtemp())
x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32")
np.savez(folder / "digits.npz", x=x, y=y)

"""
## Train for a while

`FDRSGD` is SGD that measures its steps. `l2` adds (`l2` / 2) times the squared length
of all weights to the loss. `FDRCallback(factor=None)` writes the ratio into the logs
and leaves the learning rate alone.
"""

model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(
    optimizer=FDRSGD(learning_rate=0.1, momentum=0.9, l2=0.01),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
history = model.fit(
    shuffled_batches(x, y, batch_size=32, seed=0),
    epochs=10,
    shuffle=False,
    verbose=0,
    callbacks=[FDRCallback(factor=None)],
)
print(f"Loss after 10 epochs: {history.history['loss'][-1]:.3f}")
print(f"Ratio: {history.history['fdr_ratio'][-1]:.2f}")

"""
## Export
"""

export_trainer(model, folder / "trainer")
print("Files:", sorted(path.name for path in (folder / "trainer").iterdir()))

"""
## Continue in another process

The program below runs in a process of its own. Its first line makes any import of Keras
or of this package fail, as on a machine that does not have them.

`train_step` takes a batch and does what one step of `fit` does. Its logs are averages
since `reset_metrics`. `half_running_average` returns the averages over the newest half
of all steps since the last change of the learning rate, including those before the
export.

The last two lines of the loop are the whole schedule: if the ratio is within 5% of 1,
halve the learning rate. `set_learning_rate` also starts the averages again.
"""

program = """
import sys
sys.modules["keras"] = sys.modules["keras_fdr"] = None

import numpy as np
import tensorflow as tf

trainer = tf.saved_model.load("trainer")
data = np.load("digits.npz")
rng = np.random.default_rng(0)
print("epoch  learning rate   loss  accuracy  ratio")
for epoch in range(10, 40):
    trainer.reset_metrics()
    order = rng.permutation(len(data["x"]))
    for batch in np.array_split(order, len(order) // 32):
        logs = trainer.train_step(data["x"][batch], data["y"][batch])
    average = trainer.half_running_average()
    ratio = float(average["dissipation"] / average["fluctuation"])
    rate = float(trainer.learning_rate())
    cut = abs(ratio - 1) < 0.05
    if cut or epoch % 5 == 0:
        loss, accuracy = float(logs["loss"]), float(logs["accuracy"])
        note = "  cut" if cut else ""
        row = f"{epoch + 1:5}  {rate:13.4f}  {loss:5.3f}  {accuracy:8.3f}"
        print(f"{row}  {ratio:5.2f}{note}")
    if cut:
        trainer.set_learning_rate(0.5 * rate)
predicted = np.argmax(trainer.predict(data["x"]), axis=1)
print(f"Accuracy on the training images: {np.mean(predicted == data['y']):.3f}")
"""
(folder / "continue_training.py").write_text(program)
done = subprocess.run(
    [sys.executable, "continue_training.py"],
    cwd=folder,
    check=True,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
)
print(done.stdout)

"""
The first row continues the run from above: its loss is close to the loss that `fit`
printed last. Rows marked with *cut* are those in which the ratio was within 5% of 1.
Soon after a cut the averages cover few steps, so the ratio may be far from 1.

## What to know

- The exported functions also include the loss and gradient over a whole dataset
  (`full_batch_add` and `full_batch_gradient`). `help(keras_fdr.export_trainer)` lists
  them all.
- `tf.train.Checkpoint(trainer)` saves and restores the state of the loaded trainer.
- The callback itself, `class_weight`, and weights on several devices are not exported.
"""
