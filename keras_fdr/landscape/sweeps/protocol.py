"""The paper's protocol: one run after the other over a sequence of learning rates."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_fdr.arguments import (
    check_callable,
    check_integer,
    check_path,
    check_verbosity,
)
from keras_fdr.landscape.results import SweepResults
from keras_fdr.landscape.rows import SweepRow
from keras_fdr.landscape.sweeps.arguments import (
    Stage,
    check_full_batch_every,
    check_initial,
    check_mode,
    check_seeds,
    check_stages,
)
from keras_fdr.landscape.sweeps.epoch_bar import EpochBar
from keras_fdr.landscape.sweeps.stage_runner import StageRunner
from keras_fdr.landscape.sweeps.store import Store
from keras_fdr.snapshot import State


def sweep(
    model: keras.Model,
    dataset: Any,
    stages: Sequence[Stage],
    seeds: int | Sequence[int] = 4,
    batch_size: int = 100,
    initial: Stage | None = None,
    mode: str = "independent",
    full_batch_every: int = 1,
    directory: str | os.PathLike[str] | None = None,
    verbose: int = 1,
    progress: Callable[[int], object] | None = None,
) -> SweepResults:
    """Trains through a sequence of learning rates and measures FDR2 at each.

    This is the protocol of appendices B.1 and B.2 of the paper. All seeds share one
    initial run. Then follow the stages, each with a learning rate η and a number of
    epochs. A stage starts where the last one ended, with the velocity v set to 0. The
    seeds differ only in their mini-batches. The numbers of a stage are averages over
    its newest half. In this half one full-batch pass an epoch measures the gradient ∇f
    of the whole loss f (or fewer passes, see `full_batch_every`).

    There are two modes:

    - `"independent"`: each mini-batch is drawn independently of all others. The passes
      are at random steps, one an epoch. FDR2 holds in this mode.
    - `"paper"`: the data are reshuffled in each epoch, and the passes are at the ends
      of epochs. The mini-batches of one epoch are then anti-correlated, and the passes
      always come after a whole shuffle. So at small η, O_FB (the left side of FDR2)
      comes out too small, or even negative.

    In both modes |∇f|² is that of the passes. v·∇f is the average of v(t)·∇f^B over
    all steps (footnote 5), where ∇f^B is the mini-batch gradient. For independent
    mini-batches it has the same mean as v·∇f at the passes, and far less noise.

    The model is left as it was found.

    Example:

    >>> import keras, numpy as np
    >>> from keras_fdr import FDRSGD, landscape
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=FDRSGD(l2=0.1), loss="mse")
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(40, 2)), rng.normal(size=(40, 1))
    >>> results = landscape.sweep(
    ...     model, (x, y), stages=[(0.1, 20), (0.05, 20)], seeds=2, batch_size=4,
    ...     verbose=0)
    >>> len(results.rows)
    4
    >>> found = landscape.fit(results)
    >>> found.learning_rates
    (0.05, 0.1)

    Args:
        model: A `keras.Model` compiled with `FDRSGD`.
        dataset: The training set: a tuple of arrays `(x, y)` or
            `(x, y, sample_weight)`, or a `tf.data.Dataset` of such batches, which is
            read into memory.
        stages: List of `(learning_rate, epochs)`, in the order to run, with at least
            3 epochs. An epoch is examples // batch_size steps.
        seeds: Integer, the number of seeds, or a list of integers. Confidence intervals
            need at least 2. Defaults to `4`.
        batch_size: Integer, the examples of a mini-batch. Defaults to `100`.
        initial: `(learning_rate, epochs)` of the initial run, or `None` to start
            from the present weights. Defaults to `None`.
        mode: `"independent"` or `"paper"`. Defaults to `"independent"`.
        full_batch_every: Integer, at least 1: epochs from one full-batch pass to the
            next, counted back from the last. A stage needs two in its newest half.
            Defaults to `1`, as in the paper.
        directory: Where to keep the table (`sweep.json`) and the weights after each
            finished stage. The same call with the same directory resumes after the
            last finished stage. Defaults to `None`: nothing is kept.
        verbose: Integer. Above 0 a progress bar with the time left is shown.
            Defaults to `1`.
        progress: Function that is called with a number of epochs whenever so many have
            ended. Epochs of an earlier call with the same directory count, too. Use it
            for one display of several processes with separate seeds.
            Defaults to `None`.

    Returns:
        `SweepResults`, to pass to `fit`.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument is out of range; if the optimizer is not an `FDRSGD`,
            or changes the gradient (by clipping or accumulation); or if `directory`
            holds a sweep with other settings.
        FloatingPointError: If the weights diverge at one of the learning rates.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), appendix B.
    """
    stages, seeds = check_stages(stages), check_seeds(seeds)
    initial, mode = check_initial(initial), check_mode(mode)
    batch_size = check_integer("batch_size", batch_size, 1)
    full_batch_every = check_full_batch_every(full_batch_every, stages)
    verbose = check_verbosity(verbose)
    check_callable("progress", progress, "a function of a number of epochs, or None")
    if directory is not None:
        check_path("directory", directory, "directory")
    run = StageRunner(model, dataset, batch_size, mode, full_batch_every)
    settings = {
        "mode": mode,
        "full_batch_every": full_batch_every,
        "stages": [list(stage) for stage in stages],
        "initial": initial and list(initial),
        "seeds": seeds,
        "batch_size": batch_size,
        **run.settings,
    }
    store = Store(directory, settings)
    try:
        everything = State(run.variables, model.distribute_strategy)
        bar = EpochBar(settings, verbose, progress)
        return _run_all(run, store, stages, initial, seeds, bar, everything)
    finally:
        store.close()


def _run_all(
    run: StageRunner,
    store: Store,
    stages: Sequence[Stage],
    initial: Stage | None,
    seeds: list[int],
    bar: EpochBar,
    everything: State,
) -> SweepResults:
    """Trains the stages that are not in the store yet, then restores the model."""
    try:
        start = store.load("initial")
        if start is None:
            if initial:
                rate, epochs = initial
                run.stage(rate, epochs, 0, 0, False, bar)
            start = run.weights()
            store.save("initial", start)
        elif initial:
            bar.add(initial[1])
        for seed in seeds:
            done, weights = store.finished_stages(seed)
            run.set_weights(start if weights is None else weights)
            for number, (rate, epochs) in enumerate(stages):
                if number < done:
                    bar.add(epochs)
                    continue
                row = run.stage(rate, epochs, seed, number + 1, True, bar)
                store.add(SweepRow(seed, number, **row), run.weights())
    finally:
        everything.restore()
    return store.results
