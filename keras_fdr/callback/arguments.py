"""What `FDRCallback` takes and refuses, and its configuration."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from keras_fdr.arguments import (
    check_boolean,
    check_callable,
    check_integer,
    check_number,
    check_verbosity,
)
from keras_fdr.callback.final_decay import FinalDecay
from keras_fdr.rules import (
    ConfidenceRule,
    DistanceRule,
    DriftRule,
    PflugRule,
    ThresholdRule,
    TwoLooksRule,
)

if TYPE_CHECKING:
    from keras_fdr.callback.fdr_callback import FDRCallback

# The registration is here because the rules do not import Keras.
for rule in (
    ThresholdRule,
    ConfidenceRule,
    DriftRule,
    TwoLooksRule,
    PflugRule,
    DistanceRule,
):
    keras.saving.register_keras_serializable(package="keras_fdr")(rule)

DEFAULT_THRESHOLD = 0.01
DEFAULT_FACTOR = 0.9

_PLAIN = (
    "factor",
    "min_lr",
    "stop_at_minimum",
    "reset_velocities_on_cut",
    "verbose",
    "all_columns",
)


def check_arguments(
    threshold: float,
    factor: float | None,
    rule: Callable[..., Any] | None,
    on_stationary: Callable[..., Any] | None,
    full_batch: Any,
    full_batch_every: int,
    min_lr: float,
    stop_at_minimum: bool,
    reset_velocities_on_cut: bool,
    verbose: int,
    optimizer: keras.optimizers.Optimizer | None,
    all_columns: bool,
) -> None:
    """Refuses values out of range, and arguments that contradict each other.

    Raises:
        ValueError: If one is out of range, or needs another.
        TypeError: If one is of a wrong type.
    """
    check_number("threshold", threshold, low=0)
    if factor is not None:
        check_number("factor", factor, low=0, high=1)
    check_number("min_lr", min_lr, low=0, low_allowed=True)
    check_integer("full_batch_every", full_batch_every, low=1)
    check_verbosity(verbose)
    check_boolean("stop_at_minimum", stop_at_minimum)
    check_boolean("reset_velocities_on_cut", reset_velocities_on_cut)
    check_boolean("all_columns", all_columns)
    if stop_at_minimum and not (factor and min_lr):
        raise ValueError(
            "`stop_at_minimum` needs a `factor` and a `min_lr` above 0, "
            "otherwise the minimum is never reached. Received: "
            f"factor={factor}, min_lr={min_lr}"
        )
    if rule is not None and threshold != DEFAULT_THRESHOLD:
        raise ValueError(
            "`threshold` belongs to the default rule: pass it to `rule` instead. "
            f"Received: threshold={threshold}, rule={rule}"
        )
    if isinstance(rule, type):
        raise TypeError(
            "`rule` must be a rule, not a class of rules: call the class, as in "
            f"`rule={rule.__name__}()`. Received: rule={rule}"
        )
    check_callable("rule", rule, "a function `Record -> Verdict`")
    check_callable("on_stationary", on_stationary, "a function `(model, verdict)`")
    if on_stationary and (factor, min_lr) != (DEFAULT_FACTOR, 0):
        raise ValueError(
            "`on_stationary` is called instead of a cut: leave out `factor` and "
            "`min_lr`. Received: "
            f"factor={factor}, min_lr={min_lr}"
        )
    if optimizer is not None and not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "`optimizer` must be a `keras.optimizers.Optimizer`, such as "
            f"`model.discriminator_optimizer`. Received: optimizer={optimizer!r}"
        )
    if full_batch is None and full_batch_every != 1:
        raise ValueError(
            "`full_batch_every` needs a dataset: pass `full_batch` as well. "
            f"Received: full_batch_every={full_batch_every}"
        )


def check_final_decay(
    final_decay: FinalDecay | None,
    factor: float | None,
    on_stationary: Callable[..., Any] | None,
    stop_at_minimum: bool,
) -> None:
    """Refuses what is not a `FinalDecay`, and arguments that it contradicts.

    Raises:
        TypeError: If it is something else.
        ValueError: If cuts were asked for as well.
    """
    if final_decay is None:
        return
    if not isinstance(final_decay, FinalDecay):
        raise TypeError(
            "`final_decay` must be a `FinalDecay`, as in "
            f"`final_decay=FinalDecay(share=0.25)`. Received: {final_decay!r}"
        )
    cuts = factor not in (None, DEFAULT_FACTOR)
    if cuts or on_stationary or stop_at_minimum:
        raise ValueError(
            "`final_decay` begins, instead of a cut, when the run is stationary: leave "
            "out `factor` (or pass `factor=None`, and it begins only as planned), "
            f"`on_stationary` and `stop_at_minimum`. Received: factor={factor}, "
            f"on_stationary={on_stationary}, stop_at_minimum={stop_at_minimum}"
        )


def config_of(callback: "FDRCallback", full_batch: bool) -> dict[str, Any]:
    """The arguments of an `FDRCallback`, from its attributes.

    Args:
        callback: The `FDRCallback`.
        full_batch: Boolean, whether it makes full-batch passes.

    Returns:
        Dictionary that Keras can save.

    Raises:
        ValueError: If one of them is a function or a dataset.
    """
    refused = {
        "rule": None if hasattr(callback.rule, "get_config") else callback.rule,
        "on_stationary": callback.on_stationary,
        "full_batch": "a dataset" if full_batch else None,
        "optimizer": callback.optimizer,
    }
    for name, value in refused.items():
        if value is not None:
            raise ValueError(
                "A configuration holds numbers, strings and objects with "
                "`get_config`. It cannot hold functions, datasets or optimizers. "
                f"Create the callback without `{name}`, or call its constructor. "
                f"Received: {name}={value}"
            )
    objects = {"rule": callback.rule, "final_decay": callback.final_decay}
    return {
        **{k: keras.saving.serialize_keras_object(v) for k, v in objects.items()},
        **{name: getattr(callback, name) for name in _PLAIN},
    }


def arguments_of(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the constructor, from what `config_of` returned."""
    # Configurations of older code have no final decay.
    objects = {"rule": config["rule"], "final_decay": config.get("final_decay")}
    return {
        **config,
        **{k: keras.saving.deserialize_keras_object(v) for k, v in objects.items()},
    }
