"""The private results of `compile`."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from keras.src.utils.tracking import DotNotTrackScope


def compiled_loss(model: keras.Model) -> Any:
    """The compiled loss. Each call of `compile` creates a new object."""
    return model._compile_loss


def loss_as_given(model: keras.Model) -> str:
    """A string that differs between different losses in `compile`."""
    container = model._compile_loss
    if container is None:
        return "none"
    given = (container._user_loss, container._user_loss_weights)
    return str(keras.tree.map_structure(_described, given))


def _described(loss: Any) -> str:
    if isinstance(loss, keras.losses.Loss):
        # Two objects with equal settings count as the same loss.
        config = {k: v for k, v in loss.get_config().items() if k != "name"}
        # The configuration of some losses lacks some of their arguments.
        return f"{type(loss).__name__} {config} {getattr(loss, '_fn_kwargs', '')}"
    return str(loss)


def global_seed() -> list[keras.Variable]:
    """The state of Keras' global seed generator, as a list. Empty if not used yet."""
    generator = get_global_attribute(GLOBAL_SEED_GENERATOR)
    return [] if generator is None else [generator.state]


def random_seed() -> int | None:
    """TensorFlow's global random seed, or `None` if none was set."""
    seed, _ = tf.compat.v1.get_seed(0)
    # TensorFlow takes this number where no seed was set.
    return None if seed == 87654321 else seed


def takes_training(model: keras.Model) -> bool:
    """Whether `model` can be called with `training=`."""
    return model._call_has_training_arg


def build(model: keras.Model, batch_spec: Any) -> None:
    """Builds a compiled model, its loss and its metrics, but not its optimizer.

    Args:
        model: A compiled `keras.Model`.
        batch_spec: `(x, y[, sample_weight])` of `tf.TensorSpec`.
    """
    # Keras would build the optimizer, too, which may refuse the strategy. A gradient
    # does not depend on the optimizer.
    optimizer = model.optimizer
    with model.distribute_strategy.scope():
        _set_optimizer(model, None)
        try:
            model._symbolic_build(data_batch=batch_spec)
        finally:
            _set_optimizer(model, optimizer)


def _set_optimizer(model: keras.Model, optimizer: Any) -> None:
    # Keras must not track what is put in the optimizer's place, but it must track the
    # layers that a model makes when it is built.
    with DotNotTrackScope():
        model.optimizer = optimizer


@contextlib.contextmanager
def twice_differentiable(model: keras.Model) -> Iterator[None]:
    """Traces recurrent layers as loops, since cuDNN has no second derivative."""
    layers = [
        layer for layer in model._flatten_layers() if getattr(layer, "use_cudnn", False)
    ]
    kept = [layer.use_cudnn for layer in layers]
    try:
        for layer in layers:
            layer.use_cudnn = False
        yield
    finally:
        for layer, use_cudnn in zip(layers, kept, strict=True):
            layer.use_cudnn = use_cudnn
