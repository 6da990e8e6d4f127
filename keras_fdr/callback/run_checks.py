"""What `FDRCallback` checks when training begins, and what it tells the user then."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_fdr import _compat
from keras_fdr.callback.data_order import repeated_order
from keras_fdr.callback.planned import note_on_plan, relaxation_of
from keras_fdr.distribution.loss_shares import announce_shares
from keras_fdr.distribution.trainer import check_execution
from keras_fdr.measured import Measured
from keras_fdr.model_checks import check_eager_layers
from keras_fdr.optimizer.sgd import FDRSGD
from keras_fdr.restart.callback_list import prepare_restart
from keras_fdr.rules import Configured

if TYPE_CHECKING:
    from keras_fdr.callback.fdr_callback import FDRCallback


def check_run(callback: "FDRCallback", optimizer: Measured) -> None:
    """Refuses what cannot be measured or cut, before any weight changes.

    Args:
        callback: The `FDRCallback`, when training begins.
        optimizer: What it measures.

    Raises:
        ValueError: If the optimizer, the model, the data or another callback does not
            fit.
    """
    _check_one_scheduler(callback, optimizer)
    check_execution(callback.model)
    if isinstance(optimizer, FDRSGD):
        if optimizer is getattr(callback.model.optimizer, "inner_optimizer", None):
            _compat.open_loss_scaling(callback.model.optimizer)
        announce_shares(callback.model, optimizer)
    else:
        _check_stock(callback, optimizer)
    arguments = _compat.fit_call(callback, callback.model).arguments
    check_eager_layers(callback.model, _compat.batch_spec(arguments))


def build_early(callback: "FDRCallback", optimizer: Measured) -> None:
    """Builds an `FDRSGD` whose weights exist, as Keras' first step would.

    Before it is built, an `FDRSGD` only keeps the loaded state for later. But the
    number of earlier steps is needed before the first step. Other optimizers are left
    to Keras, because some, such as `ScheduleFreeAdamW`, train differently if they are
    built earlier.

    Args:
        callback: The `FDRCallback`, when training begins.
        optimizer: What it measures.
    """
    if not isinstance(optimizer, FDRSGD):
        return
    model = callback.model
    weights = model.trainable_variables if model.built else []
    if callback.optimizer is None and weights and not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(weights)


def _check_one_scheduler(callback: "FDRCallback", optimizer: Measured) -> None:
    schedule = _compat.learning_rate_schedule(optimizer)
    if (callback.factor or callback.final_decay) and schedule is not None:
        raise ValueError(
            "A learning rate that follows a schedule cannot also be cut: two "
            "schedulers would fight. Give the optimizer a float, or pass "
            "`factor=None` without `final_decay` to measure only. Received: "
            f"learning_rate={schedule}"
        )


def _check_stock(callback: "FDRCallback", optimizer: Measured) -> None:
    """Refuses what only `FDRSGD` can do."""
    if (callback.factor or callback.final_decay) and optimizer.has_several_rates:
        names = [type(part).__name__ for part in optimizer.optimizers]
        raise ValueError(
            "A cut needs one learning rate, and a `MultiOptimizer` has several: "
            "pass `factor=None` to measure only, or "
            "`FDRCallback(optimizer=...)` to choose one of its optimizers. "
            f"Received: a MultiOptimizer of {', '.join(names)}"
        )
    if callback.reset_velocities_on_cut:
        raise ValueError(
            "`reset_velocities_on_cut` needs velocities in the paper's form: "
            "compile the model with `keras_fdr.FDRSGD`. "
            f"Received: optimizer={type(optimizer.optimizer).__name__}"
        )


def notes_on_run(
    callback: "FDRCallback", optimizer: Measured
) -> Iterator[tuple[str, str | None]]:
    """What a user should know of this run, although it can be measured.

    Args:
        callback: The `FDRCallback`, when training begins.
        optimizer: What it measures.

    Yields:
        Pairs of a subject and a message; the message is `None` if there is nothing to
        say.
    """
    cuts_by_own_rule = isinstance(callback.rule, Configured) and (
        callback.factor or callback.on_stationary
    )
    if cuts_by_own_rule and not callback.final_decay:
        tau = relaxation_of(callback.model, optimizer)
        plan = callback.params
        yield "plan", note_on_plan(tau, plan.get("epochs"), plan.get("steps"))
    yield "restart", prepare_restart(callback)
    yield "order", repeated_order(callback)
    yield "l2", _note_on_l2(callback, optimizer)


def _note_on_l2(callback: "FDRCallback", optimizer: Measured) -> str | None:
    weights = callback.model.trainable_weights
    regularised = any(getattr(w, "regularizer", None) for w in weights)
    if optimizer.l2 or regularised or optimizer.weight_decay:
        return None
    return (
        "The loss has no L2 term (`FDRSGD(l2=...)`, a regulariser in the layers, or "
        "`weight_decay` of another optimizer): the weights may drift for ever, and a "
        "stationary state need not exist (section 2.3.4 of the paper)."
    )


def note_on_clipping(optimizer: Measured) -> str | None:
    """What clipping means for full-batch passes; `None` if nothing is clipped.

    Args:
        optimizer: What is measured.
    """
    if not (optimizer.clipnorm or optimizer.global_clipnorm or optimizer.clipvalue):
        return None
    return (
        "FDR2 needs mini-batch gradients whose mean is the full-batch gradient. "
        "Clipped gradients do not have this mean, so `full_batch_dissipation` then "
        "says nothing about the Hessian."
    )
