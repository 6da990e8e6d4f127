"""
Title: Train on many devices and decide as one
Author: [The keras_fdr authors](https://github.com/keras-fdr/keras-fdr)
Date created: 2026/11/27
Last modified: 2026/11/27
Description: Two devices measure, cut the learning rate and end as one device does.
Accelerator: None
"""

"""
## Introduction

`FDRCallback` lowers the learning rate when training has settled at it. It decides by a
ratio: the **dissipation** (how hard the gradient pulls the weights inward) divided by
the **fluctuation** (how hard the noise of mini-batches drives them outward). In a
settled run the ratio is 1.

On several devices each one sees only its share of a batch, and its noise is larger than
that of the whole batch. This tutorial shows that the package adds up the shares first.
All numbers are those of the whole batch, and the run is that of one device up to
rounding.
"""

"""
## Setup

To run anywhere, we split one CPU into two logical devices. This must happen before
TensorFlow creates its devices. On a machine with several GPUs, leave these lines out
and write `tf.distribute.MirroredStrategy()`.
"""

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from keras_fdr import FDRSGD, FDRCallback, prepare_distributed, shuffled_batches

(cpu, *_) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
print("Devices:", strategy.num_replicas_in_sync)

x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32")

"""
## Build and train

The batch size is that of the whole batch, here 64. Each of the two devices takes 32 of
its images. 1,797 images are not a multiple of 64: the last batch of an epoch is
smaller, and its shares are weighted correctly.

`prepare_distributed(model)`, called after `compile`, makes `fit` and `evaluate` work
with several workers, with uneven first batches, and with `steps_per_execution` above 1.
There it repairs what stock Keras does not do.
"""


def train(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(32, activation="relu"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(
            optimizer=FDRSGD(learning_rate=0.2, momentum=0.9, l2=0.01),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    prepare_distributed(model)
    callback = FDRCallback(threshold=0.05, factor=0.5)
    history = model.fit(
        shuffled_batches(x, y, batch_size=64, seed=0),
        epochs=15,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    )
    return model, callback, history.history


"""
We train once on two devices and once on one. `tf.distribute.get_strategy()` outside any
scope is TensorFlow's default: one device.
"""

two_model, two_callback, two = train(strategy)
one_model, one_callback, one = train(tf.distribute.get_strategy())

"""
## Compare
"""

print("epoch  learning rate  ratio, two devices  ratio, one device")
for epoch in range(0, 15, 2):
    rate = two["learning_rate"][epoch]
    left, right = two["fdr_ratio"][epoch], one["fdr_ratio"][epoch]
    print(f"{epoch + 1:5}  {rate:13.4f}  {left:18.4f}  {right:17.4f}")

same_rates = np.allclose(two["learning_rate"], one["learning_rate"])
print("Cuts:", len(two_callback.cuts), "and", len(one_callback.cuts))
print("Same learning rates in all epochs:", same_rates)
difference = max(
    float(np.max(np.abs(a - b)))
    for a, b in zip(two_model.get_weights(), one_model.get_weights(), strict=True)
)
print("Weights agree to 0.01:", difference < 0.01)

"""
Both runs cut in the same epochs. What differs is the order of additions in 32-bit
arithmetic. Such rounding grows slowly over a long run.

## Several machines

The program changes in three places. Each machine runs the same script, with the
environment variable `TF_CONFIG` naming all workers and its own number ([TensorFlow's
guide](https://www.tensorflow.org/guide/distributed_training#TF_CONFIG)).

1. `strategy = tf.distribute.MultiWorkerMirroredStrategy()` stands before everything
   else.
2. `keras.utils.set_random_seed(0)` uses the same number on all workers.
3. Callbacks that write files are wrapped: `on_chief(model, callback)`, so that only the
   first worker writes.

Every worker computes the same ratio from the same sums, so all of them cut in the same
epoch without asking each other.

## What to do in your own training

- Give the size of the whole batch to `shuffled_batches`. If you double the number of
  devices and keep that size, the ratio, the cuts and the result stay as they are.
- If you double the batch size with the devices, the variance of the noise halves.
  Training then settles at another loss, so choose the learning rate again.
"""
