"""KerasTuner searches over models that are trained with `FDRCallback`."""

import numpy as np
import pytest

from keras_fdr import FDRSGD, FDRCallback, shuffled_batches

keras_tuner = pytest.importorskip("keras_tuner")


# KerasTuner calls functions of Python by their old names.
@pytest.mark.filterwarnings("ignore:.* is deprecated, :DeprecationWarning")
def test_random_search_copies_the_callback_for_each_trial(tmp_path, digits):
    import keras

    def build(parameters):
        rate = parameters.Float("learning_rate", 0.01, 0.2, sampling="log")
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(FDRSGD(rate, l2=0.01), loss=loss)
        return model

    tuner = keras_tuner.RandomSearch(
        build,
        keras_tuner.Objective("full_batch_loss", "min"),
        max_trials=3,
        executions_per_trial=2,
        seed=0,
        directory=tmp_path,
        project_name="search",
    )
    callback = FDRCallback(full_batch=digits)
    batches = shuffled_batches(*digits, batch_size=50, seed=0)
    options = {"epochs": 2, "shuffle": False, "verbose": 0, "callbacks": [callback]}
    tuner.search(batches, **options)
    # The callback that was passed stays unused.
    assert callback.record is None and callback.model is None
    trials = tuner.oracle.get_best_trials(3)
    rates = [trial.hyperparameters.get("learning_rate") for trial in trials]
    assert len(set(rates)) == 3
    # f at the end of a trial is that of the rate: the best of them by a run apart.
    losses = [trial.score for trial in trials]
    assert losses == sorted(losses) and np.isfinite(losses).all()
    ratios = [trial.metrics.get_best_value("fdr_ratio") for trial in trials]
    assert np.isfinite(ratios).all()
    single = build(trials[0].hyperparameters)
    history = single.fit(
        batches, **{**options, "callbacks": [FDRCallback(full_batch=digits)]}
    ).history
    assert min(history["full_batch_loss"]) == pytest.approx(losses[0], rel=0.2)
