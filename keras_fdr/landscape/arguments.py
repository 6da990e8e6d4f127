"""Checks of the arguments of a sweep, before it begins."""

from collections.abc import Sequence

from keras_fdr import _compat
from keras_fdr.optimizer.sgd import FDRSGD

# The learning rate and the number of epochs.
Stage = tuple[float, int]


def check_arguments(
    stages: Sequence[Stage],
    seeds: list[int],
    initial: Stage | None,
    mode: str,
    full_batch_every: int,
) -> None:
    """Checks the arguments of `sweep`.

    Raises:
        ValueError: If one is out of range.
    """
    for name, least, value in [
        # Three epochs have two passes in their newest half. A drift needs both.
        *(("stages", 3, stage) for stage in stages),
        *([("initial", 1, initial)] if initial else []),
    ]:
        rate, epochs = value
        if not 0 < rate < float("inf") or epochs != int(epochs) or epochs < least:
            raise ValueError(
                f"`{name}` must have a learning rate above 0 and a whole number of "
                f"epochs, at least {least}. Received: {value}"
            )
    newest_half = min((e - e // 2 for _, e in stages), default=2)
    whole = full_batch_every == int(full_batch_every)
    if not (whole and 1 <= full_batch_every < newest_half):
        raise ValueError(
            "`full_batch_every` must be an integer, at least 1, and leave two passes "
            f"in the newest half of each stage, here of {newest_half} epochs. "
            f"Received: full_batch_every={full_batch_every}"
        )
    if not stages:
        raise ValueError("`stages` must have at least one stage. Received: none")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(
            "`seeds` must be at least one integer, all different and at least 0. "
            f"Received: seeds={seeds}"
        )
    if mode not in ("independent", "paper"):
        raise ValueError(
            f'`mode` must be "independent" or "paper". Received: mode={mode!r}'
        )


def check_dynamics(optimizer: FDRSGD) -> None:
    """Refuses settings with which the gradient of a step is not ∇f^B.

    Here ∇f^B is the gradient of the loss of the mini-batch.

    Raises:
        ValueError: If the optimizer clips or accumulates gradients, or its learning
            rate follows a schedule.
    """
    for name in (
        "clipnorm",
        "clipvalue",
        "global_clipnorm",
        "gradient_accumulation_steps",
    ):
        value = getattr(optimizer, name)
        if value:
            raise ValueError(
                "FDR2 needs steps with the plain mini-batch gradient. Compile without "
                f"`{name}`. Received: {name}={value}"
            )
    schedule = _compat.learning_rate_schedule(optimizer)
    if schedule is not None:
        raise ValueError(
            "A sweep sets the learning rates itself. Give the optimizer a float. "
            f"Received: learning_rate={schedule}"
        )
