"""
Title: Is my AdamW run still learning?
Author: [The keras_fdr authors](https://github.com/keras-fdr/keras-fdr)
Date created: 2026/11/27
Last modified: 2026/11/27
Description: Watch any Keras optimizer, at a constant rate and under a cosine schedule.
Accelerator: None
"""

"""
## Introduction

The training loss of a mini-batch is noisy, and a flat curve can still hide progress.
This tutorial adds one number to the epoch's logs that tells whether the *weights* have
settled at the present learning rate. It changes nothing in the training itself.

The number is `fdr_ratio`. It divides the **dissipation**, which says how hard the steps
pull the weights inward, by the **fluctuation**, which says how hard their noise drives
the weights outward. The two agree when the run is stationary, that is, when the size of
the weights has stopped drifting. This holds for every optimizer, hence also for AdamW.
"""

"""
## Setup

The data are the 1,797 handwritten digits that come with scikit-learn.
"""

import keras
from sklearn.datasets import load_digits

from keras_fdr import FDRCallback, shuffled_batches

x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32")
batches = shuffled_batches(x, y, batch_size=32, seed=0)
print("Steps in an epoch:", len(batches))


def build_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


"""
## Add the monitor

You need one callback. `factor=None` means that it only measures and never touches the
learning rate. The optimizer is still the stock AdamW: it keeps its class and its
weights.
"""

model = build_model()
model.compile("adamw", "sparse_categorical_crossentropy", metrics=["accuracy"])
monitor = FDRCallback(factor=None)
history = model.fit(batches, epochs=40, shuffle=False, verbose=0, callbacks=[monitor])
print("Optimizer:", type(model.optimizer).__name__)


def show(history, epochs):
    print("epoch  learning rate    loss   ratio")
    for epoch in epochs:
        row = {name: values[epoch - 1] for name, values in history.history.items()}
        rate, loss, ratio = row["learning_rate"], row["loss"], row["fdr_ratio"]
        print(f"{epoch:5}  {rate:13.6f}  {loss:6.4f}  {ratio:6.2f}")


show(history, (1, 5, 10, 20, 30, 40))

"""
A **negative** ratio says that the steps push the weights outward: the network is still
growing its weights to fit the data. Keras' default weight decay of 0.004 is far too
weak to stop this growth in so short a run. The loss agrees: it still falls in every
row.

So the answer to our question is yes, this run still learns. There is no reason yet to
lower the rate.
"""

"""
## A run that settles

With a larger weight decay the growth ends. AdamW multiplies the weights by 1 −
(learning rate × weight decay) in each step, so it forgets old weights in about 1 /
(learning rate × weight decay) steps. Here these are 1 / (0.01 × 1) = 100 steps, which
is about 2 epochs. A run of 40 epochs is twenty times as long.
"""

settled = build_model()
settled.compile(
    keras.optimizers.AdamW(learning_rate=0.01, weight_decay=1.0),
    "sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
history_settled = settled.fit(
    batches,
    epochs=40,
    shuffle=False,
    verbose=0,
    callbacks=[FDRCallback(factor=None)],
)
show(history_settled, (1, 5, 10, 20, 30, 40))

"""
The ratio comes close to 1 (to 0.97 at the end), and the loss stops falling after about
20 epochs. This run no longer learns at this rate. Either stop, or lower the rate.

A ratio of 1 says that the size of the weights has stopped drifting. It does not say
that the loss is as low as it can be. The next section shows what a smaller rate earns.
"""

"""
## Next to a cosine schedule

The callback also measures under a schedule of your own. Here the learning rate falls
along a cosine from 0.01 to 0 over the 40 epochs.
"""

steps = 40 * len(batches)
cosine = build_model()
cosine.compile(
    keras.optimizers.AdamW(
        learning_rate=keras.optimizers.schedules.CosineDecay(0.01, steps),
        weight_decay=1.0,
    ),
    "sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
history_cosine = cosine.fit(
    batches,
    epochs=40,
    shuffle=False,
    verbose=0,
    callbacks=[FDRCallback(factor=None)],
)
show(history_cosine, (1, 5, 10, 20, 30, 40))

"""
The loss now falls to the end, and the ratio says so: it is near 1 while the rate is
high, and leaves 1 again when the rate falls faster than the weights can follow. Under
a schedule no state is stationary for long, since the balance moves with the rate. Read
the ratio as a direction there, and do not cut by it.

The final losses show what the decay earned:
"""

for name, run in (("constant", history_settled), ("cosine", history_cosine)):
    print(f"{name:8}  final loss {run.history['loss'][-1]:.4f}")

"""
## What to do with the number

| `fdr_ratio` | what it says | what to do |
|---|---|---|
| far above 1 | The weights shrink. | Wait. |
| about 1, for many epochs | The run has settled. | Lower the rate, or stop. |
| below 1 or negative | The weights still grow. | Wait, or raise the weight decay. |
| any, under a schedule | The balance moves. | Compare runs. Do not cut by it. |

`FDRCallback(factor=0.9)` instead of `factor=None` lets the ratio cut a constant rate
for you. It also works with AdamW.
"""
