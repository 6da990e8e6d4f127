"""
Title: Read the loss landscape from the noise of SGD
Author: [The keras_fdr authors](https://github.com/keras-fdr/keras-fdr)
Date created: 2026/11/27
Last modified: 2026/11/27
Description: Measure how curved the loss is, from gradients alone.
Accelerator: None
"""

"""
## Introduction

How curved is the loss of your network where training ends? The usual answer needs
second derivatives (the Hessian matrix H). This tutorial gets it from first derivatives
only.

The idea: stochastic gradient descent (SGD) never sits still at a minimum, because each
mini-batch has its own gradient. In a curved valley this noise keeps the weights a
little up the walls, and there the gradient of the *whole* training loss is not zero.
Its mean square length grows in proportion to the learning rate. Twice the slope is the
curvature that the noise feels, which is written Tr(HC̃): H is the Hessian, and C̃ is
the mean product of a mini-batch gradient with itself. Tr stands for the trace, the sum
of the diagonal of the product of these two matrices.

This is the second fluctuation-dissipation relation, FDR2, of [Yaida
(2019)](https://arxiv.org/abs/1810.00004).
"""

"""
## Setup

We use the 1,797 handwritten digits of scikit-learn and a small network with `tanh`,
which makes the loss smooth. `FDRSGD` without momentum is plain SGD. Its `l2` adds an L2
term to the loss, so that training at a constant rate ends in a stationary state.
"""

import keras
from sklearn.datasets import load_digits

from keras_fdr import FDRSGD, landscape, plots

keras.utils.set_random_seed(0)
x, y = load_digits(return_X_y=True)
x = ((x - x.mean()) / x.std()).astype("float32")
model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(32, activation="tanh"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(FDRSGD(l2=0.05), "sparse_categorical_crossentropy")

"""
## Sweep over learning rates

`landscape.sweep` trains at several learning rates, from large to small, and measures at
each of them. `stages` lists pairs of a learning rate and a number of epochs. `initial`
is a first stage that is not measured.

The L2 term forgets the start of a stage in 1 / (learning rate × `l2`) steps. At the
smallest rate here these are 1 / (0.02 × 0.05) = 1,000 steps, or 18 epochs. The stage
lasts 100 epochs, and only its second half is measured.

The four seeds differ in their mini-batches. They give the error bars.
"""

results = landscape.sweep(
    model,
    (x, y),
    initial=(0.2, 30),
    stages=[(0.1, 40), (0.05, 60), (0.02, 100)],
    seeds=4,
    batch_size=32,
    verbose=0,
)
print("Measured stages:", len(results.rows))

"""
## Read the result
"""

found = landscape.fit(results)
print(found)

"""
Square brackets hold 95% confidence intervals.

- **Tr(HC) by FDR2** is the curvature from gradients alone.
- **Tr(HC) by products** is the same number from Hessian-vector products along the same
  runs. It is there to check the first one. The two intervals overlap.
- **Tr C** is the size of the gradient noise: the mean squared length of a mini-batch
  gradient. **Tr(HC)/Tr C** is the average curvature in the directions of the noise.
- **O_FB** is the measured mean square of the whole gradient at that learning rate.
- **nonlinearity** says how far O_FB is from a straight line through the origin.
- **residual** is the test of the valley's shape. It compares O_FB with what the
  curvature at the same learning rate predicts, and it is zero in a valley that is a
  parabola.
- **drift** is the share of O_FB that comes from a loss that still falls. Near zero is
  good.
- **FDR1 ratio** is near 1 when the weights are stationary.

The last line is the verdict on the valley's shape (*harmonic* means a parabola): it
holds where the whole interval of the residual lies within ±10%, and is undecided where
the interval is too wide.
"""

"""
The same numbers in a program. `value` is the estimate, `low` and `high` are the ends of
its interval.
"""

by_gradients = found.noise_curvature
by_products = found.direct_noise_curvature
print(f"From gradients: {by_gradients.value:.3f}")
print(f"From products:  {by_products.value:.3f}")
overlap = max(by_gradients.low, by_products.low) < min(
    by_gradients.high, by_products.high
)
print("Intervals overlap:", overlap)

figure, _ = plots.landscape(found)
figure

"""
Within their error bars the points lie on a line through the origin, as FDR2 predicts.
Its slope is half of Tr(HC̃).

## What to do with the number

- Compare networks, or regularisers, at the same batch size: at a small learning rate,
  the mean square of the whole gradient is about half the learning rate times this
  number.
- The learning rates at which the residual is small are those at which the loss looks
  like a parabola from where SGD is. Beyond them, estimates that assume a parabola fail.
- For a trained model and one number, call `landscape.noise_curvature`. It uses
  Hessian-vector products at the present weights and needs no sweep.
"""
