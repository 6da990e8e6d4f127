"""Who the chief is, and who restores and saves a backup, without any cluster."""

import keras
import pytest
from tensorflow.train import ClusterSpec

from keras_fdr.restart import chief as workers

WITH_CHIEF = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
WORKERS_ONLY = {"worker": ["a:1", "b:1"]}


class Resolver:
    def __init__(self, cluster, task_type, task_id):
        self.cluster, self.task_type, self.task_id = cluster, task_type, task_id

    def cluster_spec(self):
        return ClusterSpec(self.cluster)


class Strategy:
    num_replicas_in_sync = 2

    def __init__(self, *task):
        self.cluster_resolver = Resolver(*task) if task else None


class Model(keras.Model):
    """A model under a strategy of one's own making."""

    def __init__(self, *task):
        super().__init__()
        self.task = task

    @property
    def distribute_strategy(self):
        return Strategy(*self.__dict__.get("task", ()))


TASKS = [
    (WITH_CHIEF, "chief", 0, True),
    (WITH_CHIEF, "worker", 0, False),
    (WITH_CHIEF, "worker", 1, False),
    (WORKERS_ONLY, "worker", 0, True),
    (WORKERS_ONLY, "worker", 1, False),
]


@pytest.mark.parametrize("cluster, kind, number, chief", TASKS)
def test_only_the_chief_acts(cluster, kind, number, chief):
    callback = keras.callbacks.TerminateOnNaN()
    found = workers.on_chief(Model(cluster, kind, number), callback)
    assert (found is callback) == chief
    if not chief:
        assert type(found) is keras.callbacks.Callback


@pytest.mark.parametrize(
    "task", [(), ({"worker": ["a:1"]}, "worker", 0), ({"chief": ["a:1"]}, "chief", 0)]
)
def test_one_worker_acts_itself(task, tmp_path):
    callback = keras.callbacks.BackupAndRestore(tmp_path)
    assert workers.on_chief(Model(*task), callback) is callback


class Backup(keras.callbacks.BackupAndRestore):
    """Writes down what it is asked for."""

    def __init__(self, path, events):
        super().__init__(path)
        self.events = events

    def on_train_begin(self, logs=None):
        self.events.append("restore")

    def on_train_batch_end(self, batch, logs=None):
        self.events.append("save in the epoch")

    def on_epoch_end(self, epoch, logs=None):
        self.events.append("save")

    def on_train_end(self, logs=None):
        self.events.append("delete")


@pytest.mark.parametrize("cluster, kind, number, chief", TASKS)
def test_the_chief_restores_first_and_saves_alone(
    cluster, kind, number, chief, tmp_path, monkeypatch
):
    events: list = []

    def meet(strategy, own):
        # The first meeting lets the others restore; the second compares the steps.
        events.append("meet")
        return own * strategy.num_replicas_in_sync

    monkeypatch.setattr(workers, "sum_over_replicas", meet)
    monkeypatch.setattr(workers, "repair_backup", lambda *_: events.append("repair"))
    model = Model(cluster, kind, number)
    model.optimizer = keras.optimizers.SGD()
    callback = workers.on_chief(model, Backup(tmp_path, events))
    callback.set_model(model)
    callback.set_params({"epochs": 1})
    callback.on_train_begin()
    callback.on_train_batch_end(0)
    callback.on_epoch_end(0)
    callback.on_train_end()
    of_chief = ["repair", "restore", "meet", "meet"]
    of_chief += ["save in the epoch", "save", "delete"]
    assert events == (of_chief if chief else ["meet", "restore", "meet"])


@pytest.mark.parametrize("model", [None, "x", keras.layers.Dense(1)])
def test_refuses_what_is_no_model(model):
    with pytest.raises(TypeError, match="`model` must be a `keras.Model`. Received: "):
        workers.on_chief(model, keras.callbacks.TerminateOnNaN())


@pytest.mark.parametrize("callback", [None, 1, keras.callbacks.Callback])
def test_refuses_what_is_no_callback(callback):
    with pytest.raises(TypeError, match="`callback` must be .* Received: "):
        workers.on_chief(Model(), callback)
