"""Models with every kind of state, and all that their optimizer keeps."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from keras_fdr import FDRSGD, FDRCallback, FDRObservables, Verdict


def first_rate_is_done(record):
    """A rule without memory: the first learning rate has done its work, later ones not.

    So the first epoch ends with a cut, and the record of the second is not empty.
    """
    done = record.learning_rate > 0.09
    status = "stationary" if done else "drifting"
    return Verdict(status, record.ratio, record.steps, f"told so: {status}.")


OPTIMIZERS = {
    "plain": lambda: FDRSGD(0.1, l2=0.01),
    "momentum": lambda: FDRSGD(
        0.1,
        0.9,
        0.1,
        l2=0.01,
        observables=FDRObservables(8, center="initial", per_variable=True),
    ),
    "average": lambda: FDRSGD(0.1, 0.9, l2=0.01, use_ema=True, ema_momentum=0.9),
    # Four batches an epoch: each epoch ends within a group of three.
    "accumulation": lambda: FDRSGD(0.1, 0.9, l2=0.01, gradient_accumulation_steps=3),
    "float16": lambda: FDRSGD(0.1, 0.9, l2=0.01),
    "float16 accumulation": lambda: FDRSGD(
        0.1, l2=0.01, clipnorm=1.0, use_ema=True, gradient_accumulation_steps=3
    ),
}


@contextlib.contextmanager
def policy_of(name):
    before = keras.config.dtype_policy().name
    keras.config.set_dtype_policy(
        "mixed_float16" if name.startswith("float16") else "float32"
    )
    yield
    keras.config.set_dtype_policy(before)


def network(units=16, normalised=True):
    layers = [keras.Input((64,)), keras.layers.Dense(units, "relu")]
    if normalised:
        layers.append(keras.layers.BatchNormalization())
    return keras.Sequential([*layers, keras.layers.Dense(10, dtype="float32")])


def compiled(optimizer, units=16, seed=0, normalised=True):
    """`optimizer`: one, or the name of one of `OPTIMIZERS`."""
    keras.utils.set_random_seed(seed)
    with policy_of(optimizer) if isinstance(optimizer, str) else policy_of("plain"):
        model = network(units, normalised)
        if isinstance(optimizer, str):
            optimizer = OPTIMIZERS[optimizer]()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss=loss, metrics=["accuracy"], jit_compile=False)
    return model


def fit(model, digits, epochs, callbacks=(), initial_epoch=0, passes=True):
    full_batch = digits if passes else None
    ours = FDRCallback(rule=first_rate_is_done, factor=0.5, full_batch=full_batch)
    history = model.fit(
        *digits,
        batch_size=50,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[ours, *callbacks],
    )
    return history.history


def state(model):
    """Every variable that can be reached from a model, by where it hangs.

    Found by walking through attributes, not through what the classes say they keep.
    """
    found = {"model": [v.numpy() for v in model.variables]}
    _walk(model.optimizer, "optimizer", found, set())
    return found


def _walk(thing, path, found, seen):
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, (keras.Variable, tf.Variable)):
        found[path] = thing.numpy()
    elif isinstance(thing, (list, tuple)):
        for i, part in enumerate(thing):
            _walk(part, f"{path}/{i}", found, seen)
    elif isinstance(thing, (keras.Layer, keras.optimizers.Optimizer)):
        for name in sorted(vars(thing)):
            _walk(vars(thing)[name], f"{path}/{name}", found, seen)


def without(found, *parts):
    """Some of `state`, without the paths that have one of `parts` in them."""
    # Not the averages of the model's variables.
    names = {path: path.replace("_model_variables_moving", "") for path in found}
    return {
        path: value
        for path, value in found.items()
        if not any(part in names[path] for part in parts)
    }


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    for path, value in one.items():
        np.testing.assert_equal(other[path], value, err_msg=path)
