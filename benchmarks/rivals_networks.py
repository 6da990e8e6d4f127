"""The networks, optimizers and data on which other packages' monitors are timed.

PyTorch only: neither keras_fdr nor TensorFlow is needed.
"""

import torch
from torch import nn

EXAMPLES, BATCH_SIZE, INPUTS, CLASSES = 60_000, 100, 784, 10
RATE, ADAPTIVE_RATE, L2 = 0.01, 1e-4, 0.01


def mlp():
    """784-200-200-10, as in appendix B.1."""
    return nn.Sequential(
        nn.Linear(INPUTS, 200),
        nn.ReLU(),
        nn.Linear(200, 200),
        nn.ReLU(),
        nn.Linear(200, CLASSES),
    )


def small_conv():
    """Two convolutions of 5x5, where a step computes much and updates little."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, CLASSES),
    )


# The momentum of each setting of SGD.
MOMENTA = {"sgd": 0.0, "momentum": 0.9}


def optimizer_of(model, name):
    """The stock optimizer that both sides take, if a rival does not bring its own."""
    if name in MOMENTA:
        return torch.optim.SGD(
            model.parameters(), lr=RATE, momentum=MOMENTA[name], weight_decay=L2
        )
    adaptive = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return adaptive[name](model.parameters(), lr=ADAPTIVE_RATE)


def stepping(model, optimizer):
    """One step of the plain loop."""
    loss_function = nn.CrossEntropyLoss()

    def step(x, y):
        optimizer.zero_grad()
        loss_function(model(x), y).backward()
        optimizer.step()

    return step


def plain(model, name):
    """The loop without a rival."""
    return stepping(model, optimizer_of(model, name))


def batches(data, seed):
    """Batches without end, in a new order every epoch."""
    x, y = data
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(EXAMPLES, generator=generator)
        for chosen in order.split(BATCH_SIZE):
            yield x[chosen], y[chosen]
