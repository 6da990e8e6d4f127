"""The functions of an exported trainer (see `export_trainer`).

Each function of this module returns a dictionary. It maps a name to a Python function,
which is traced once, and to the signature of the arguments.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_fdr.export.signature import Signature
from keras_fdr.full_batch.gradient_sums import GradientSums
from keras_fdr.full_batch.objective import Objective
from keras_fdr.full_batch.result import FullBatch
from keras_fdr.notices import notice
from keras_fdr.observables.reading import (
    block_learning_rates,
    half_running_average,
)
from keras_fdr.optimizer.sgd import FDRSGD
from keras_fdr.record import FULL_BATCH_ROW, ROW

# It maps a name to a function that is traced once and the signature of its arguments.
Functions = dict[str, tuple[Callable[..., Any], Any]]


def training(model: keras.Model, signature: Signature) -> Functions:
    """`train_step` and `reset_metrics`."""

    def train_step(x: Any, y: Any, sample_weight: Any = None) -> Any:
        weighted = () if sample_weight is None else (sample_weight,)
        return model.train_step((x, y, *weighted))

    def reset_metrics() -> Any:
        averages = model.get_metrics_result()
        model.reset_metrics()
        return averages

    return {
        "train_step": (train_step, signature),
        "reset_metrics": (reset_metrics, []),
    }


def reading(optimizer: FDRSGD) -> Functions:
    """`observables`, `half_running_average` and `learning_rate`."""
    layer = optimizer.observables

    def observables() -> dict[str, Any]:
        values = {
            "names": tf.constant(ROW),
            **layer.blocks.read(),
            "learning_rate": tf.convert_to_tensor(layer.learning_rate),
            "learning_rates": block_learning_rates(layer),
            "restarts": tf.convert_to_tensor(layer.restarts),
            "full_batch_names": tf.constant(FULL_BATCH_ROW),
        }
        for name, value in layer.passes.read().items():
            values[f"full_batch_{name}"] = value
        if layer.per_variable:
            count = layer.by_variable.weights_count
            sums = layer.by_variable.read()["sums"]
            values["variable_sums"] = tf.reshape(sums, [tf.shape(sums)[0], count, -1])
            values["variable_names"] = tf.constant(layer.weight_names())
        return values

    def averages() -> dict[str, Any]:
        columns = zip(
            (*ROW, *FULL_BATCH_ROW),
            (
                *tf.unstack(half_running_average(layer)),
                *tf.unstack(layer.passes.half_running_average()),
            ),
            strict=True,
        )
        return dict(columns)

    def learning_rate() -> Any:
        return tf.convert_to_tensor(optimizer.learning_rate)

    return {
        "observables": (observables, []),
        "half_running_average": (averages, []),
        "learning_rate": (learning_rate, []),
    }


def steering(optimizer: FDRSGD, settable: bool) -> Functions:
    """`reset_velocities` and, if the rate is `settable`, `set_learning_rate`."""

    def set_learning_rate(learning_rate: Any) -> Any:
        valid = tf.math.is_finite(learning_rate) & (learning_rate >= 0)
        rule = "`learning_rate` must be finite and at least 0. Received:"
        tf.debugging.Assert(valid, [rule, learning_rate])

        def cut() -> None:
            optimizer.learning_rate = learning_rate
            optimizer.observables.reset()

        # Changes in a graph do not wait for an assertion, so they need a condition,
        # too.
        tf.cond(valid, cut, lambda: None)
        return tf.convert_to_tensor(optimizer.learning_rate)

    def reset_velocities() -> dict[str, Any]:
        optimizer.reset_velocities()
        # A signature must return something.
        return {"steps": tf.convert_to_tensor(optimizer.observables.blocks.steps)}

    functions: dict[str, tuple] = {"reset_velocities": (reset_velocities, [])}
    if settable:
        scalar = tf.TensorSpec([], optimizer.learning_rate.dtype, "learning_rate")
        functions["set_learning_rate"] = (set_learning_rate, [scalar])
    return functions


def full_batch(
    model: keras.Model, optimizer: FDRSGD, signature: Signature
) -> Functions:
    """`full_batch_add` and `full_batch_gradient`, or nothing if f is not a mean."""
    try:
        sums = GradientSums(Objective(model, signature))
        of_batch = tf.function(lambda *batch: sums.of_batch(*batch)[0], autograph=False)
        traced = of_batch.get_concrete_function(*signature)
    except ValueError as error:
        notice(f"`full_batch_gradient` is left out of the export. {error}")
        return {}
    totals = tf.nest.map_structure(
        lambda value: tf.Variable(tf.zeros(value.shape, value.dtype), trainable=False),
        traced.structured_outputs,
    )
    flat = tf.nest.flatten(totals)

    def full_batch_add(x: Any, y: Any, sample_weight: Any = None) -> dict[str, Any]:
        values, _ = sums.of_batch(x, y, sample_weight)
        for total, value in zip(flat, tf.nest.flatten(values), strict=True):
            total.assign_add(value)
        return {"examples": tf.convert_to_tensor(totals[0].denominators[0])}

    def full_batch_gradient() -> dict[str, Any]:
        values = tf.nest.map_structure(tf.convert_to_tensor, totals)
        f, norm_squared, examples, _, gradient = sums.finish(*values)
        valid = examples > 0
        rule = "`full_batch_add` must come first: the pass has no examples yet."
        tf.debugging.Assert(valid, [rule])

        def measure() -> Any:
            result = FullBatch(f, norm_squared, examples, gradient=gradient)
            row = optimizer.measure_full_batch(result)
            for total in flat:
                total.assign(tf.zeros_like(total))
            return row

        row = tf.cond(valid, measure, lambda: tf.zeros(len(FULL_BATCH_ROW), f.dtype))
        return {
            "examples": examples,
            **dict(zip(FULL_BATCH_ROW, tf.unstack(row), strict=True)),
            **{f"gradient_{i}": part for i, part in enumerate(gradient)},
        }

    return {
        "full_batch_add": (full_batch_add, signature),
        "full_batch_gradient": (full_batch_gradient, []),
    }
