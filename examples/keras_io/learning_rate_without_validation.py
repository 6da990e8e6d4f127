"""
Title: Cut the learning rate without validation data
Author: [The keras_fdr authors](https://github.com/keras-fdr/keras-fdr)
Date created: 2026/11/27
Last modified: 2026/11/27
Description: Let the training run itself say when its learning rate has done its work.
Accelerator: None
"""

"""
## Introduction

A learning rate that never falls leaves accuracy on the table. `ReduceLROnPlateau`
lowers it when a validation loss stops improving, which costs images that you could
train on.

This tutorial lowers it without validation data. It uses one fact about stochastic
gradient descent (SGD): at a constant learning rate, training ends in a state in which
two forces on the weights balance.

- The **dissipation** says how hard the gradient pulls the weights inward, that is,
  towards smaller weights.
- The **fluctuation** says how hard the noise of the mini-batches drives the weights
  outward.

[Yaida (2019)](https://arxiv.org/abs/1810.00004) calls the balance a
fluctuation-dissipation relation. `FDRCallback` measures both sides in every training
step and logs their ratio. A ratio that stays at 1 means that the learning rate has done
its work, so it is time for a smaller one.
"""

"""
## Setup
"""

import keras
import tensorflow_datasets as tfds

from keras_fdr import FDRSGD, FDRCallback, TwoLooksRule, plots, shuffled_batches

EPOCHS = 24

"""
## Prepare the data

We take 10,000 of MNIST's training images to keep this tutorial short. The test images
are only used to look at the result. No decision uses them.
"""

(x, y), (x_test, y_test) = tfds.as_numpy(
    tfds.load(
        "mnist",
        split=["train[:10000]", "test"],
        batch_size=-1,
        as_supervised=True,
    )
)
shift, scale = x.mean(), x.std()
x = ((x - shift) / scale).astype("float32")
x_test = ((x_test - shift) / scale).astype("float32")
print("Training images:", x.shape, "test images:", x_test.shape)

"""
`shuffled_batches` draws a new order of the images in every epoch. The mini-batch noise
is then as random as the relation assumes.
"""

batches = shuffled_batches(x, y, batch_size=50, seed=0)
steps_per_epoch = len(batches)
print("Steps in an epoch:", steps_per_epoch)

"""
## Build the model

`FDRSGD` takes the place of `keras.optimizers.SGD`. Its argument `l2` adds (`l2` / 2)
times the squared length of all weights to the loss. This term keeps the weights from
growing for ever, so a balance can be reached.

How long does that take? The L2 term forgets old weights in about (1 − momentum) /
(learning rate × `l2`) steps. Here these are 0.1 / (0.05 × 0.01) = 200 steps, which is
one epoch. Plan at least five times as many at the first learning rate.

`steps_per_execution` only makes short steps cheaper.
"""


def build_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=FDRSGD(learning_rate=0.05, momentum=0.9, l2=0.01),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=20,
    )
    return model


"""
## Train at a constant learning rate

With `factor=None` the callback only measures. `fdr_ratio` is the dissipation divided by
the fluctuation. Both are averaged over the newest half of all steps.
"""

constant = build_model()
monitor = FDRCallback(factor=None)
history_constant = constant.fit(
    batches,
    epochs=EPOCHS,
    shuffle=False,
    verbose=0,
    callbacks=[monitor],
)
print("epoch   loss  ratio")
for epoch in (1, 2, 5, 10, 15, 24):
    loss = history_constant.history["loss"][epoch - 1]
    ratio = history_constant.history["fdr_ratio"][epoch - 1]
    print(f"{epoch:5}  {loss:5.3f}  {ratio:5.2f}")

"""
Read the table from top to bottom. The ratio is above 1 at first: the inward pull wins,
and training makes progress. It then falls to 1 and stays there. From then on the loss
only fluctuates, however long you wait at this rate.
"""

"""
## Let the ratio cut the learning rate

The same training, but now each time the run is found to be stationary, the learning
rate is halved (`factor=0.5`) and the averages start again. `TwoLooksRule` asks for a
ratio within 10% of 1 in both halves of the averaging window, and for a loss that has
settled. A ratio that only passes through 1 does not fool it.
"""

model = build_model()
callback = FDRCallback(rule=TwoLooksRule(), factor=0.5)
history = model.fit(
    batches,
    epochs=EPOCHS,
    shuffle=False,
    verbose=0,
    callbacks=[callback],
)
print("Number of cuts:", len(callback.cuts))
for cut in callback.cuts:
    print(cut.reason)

"""
Each line gives the epoch of a cut, the ratio there (dissipation over fluctuation), and
the learning rates before and after.
"""

"""
## Compare the two runs

Now we look at the test images for the first time.
"""

for name, trained, run in (
    ("constant", constant, history_constant),
    ("with cuts", model, history),
):
    rate = run.history["learning_rate"][-1]
    loss = run.history["loss"][-1]
    _, accuracy = trained.evaluate(x_test, y_test, verbose=0)
    print(
        f"{name:9}  final learning rate {rate:.5f}  "
        f"training loss {loss:.3f}  test accuracy {accuracy:.4f}"
    )

figure, _ = plots.schedule({"constant": history_constant, "with cuts": history})
figure

"""
From top to bottom the panels show the learning rate, the training loss, the training
accuracy and the ratio. Thin vertical lines mark the cuts. After each cut the ratio
starts anew, because the averages start anew.
"""

"""
## What to do in your own training

- Keep your L2 coefficient (or start from 1e-3) and compute (1 − momentum) / (learning
  rate × `l2`). If five times that number of steps is more than you can afford, the
  ratio will not settle. Use `FDRCallback(final_decay=FinalDecay())` instead. It decays
  the rate over the last epochs of your budget.
- A ratio *below* 1, or a negative one, says that the weights still grow. This is common
  with little or no L2. Wait, or plan the decay as above.
- Add `verbose=1` to see each cut as it happens.
"""
