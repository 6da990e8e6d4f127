"""Goes on training exported models, with TensorFlow and NumPy alone.

    python export_driver.py keras,keras_fdr [--signatures] FOLDER ...

Importing the modules named first fails. With `--signatures` train steps are calls of
the flat signature. Each folder holds `trainer/` and `plan.pickle`; what was found is
written to `found.pickle`.
"""

import pickle
import sys
from pathlib import Path

for blocked in sys.argv[1].split(","):
    # TensorFlow asks where Keras lies when it is imported: None says nowhere.
    sys.modules[blocked] = None

import tensorflow as tf  # noqa: E402


def main():
    blocked = sys.argv[1].split(",")
    folders = [Path(folder) for folder in sys.argv[2:] if folder != "--signatures"]
    for name in blocked:
        try:
            __import__(name)
        except ImportError:
            continue
        raise AssertionError(f"{name} was imported")
    for folder in folders:
        plan = pickle.loads((folder / "plan.pickle").read_bytes())
        trainer = tf.saved_model.load(str(folder / "trainer"))
        if "--signatures" in sys.argv:
            trainer.train_step = flat(trainer.signatures["train_step"])
        found = (drive if "epoch" in plan else go_on)(trainer, folder, **plan)
        found = tf.nest.map_structure(lambda t: getattr(t, "numpy", lambda: t)(), found)
        (folder / "found.pickle").write_bytes(pickle.dumps(found))
    roots = tuple(f"{name}." for name in blocked)
    assert not [module for module in sys.modules if module.startswith(roots)]


def flat(signature):
    return lambda x, y: signature(x=tf.constant(x), y=tf.constant(y))


def go_on(trainer, folder, arrays, batches, cut_before, pass_before):
    """Fixed steps, a cut and a full-batch pass."""
    found = {"settable": hasattr(trainer, "set_learning_rate"), "logs": []}
    for step, batch in enumerate(batches):
        if step == cut_before and found["settable"]:
            trainer.set_learning_rate(0.5 * trainer.learning_rate())
        if step == pass_before:
            for part in (slice(0, 90), slice(90, None)):  # Unequal parts.
                trainer.full_batch_add(*take(arrays, part))
            found["full_batch"] = trainer.full_batch_gradient()
        trainer.reset_metrics()
        found["logs"].append(trainer.train_step(*take(arrays, batch)))
    found["state"] = state(trainer)
    found["predictions"] = trainer.predict(arrays[0])
    # A checkpoint of the loaded object holds all of its state.
    checkpoint = tf.train.Checkpoint(trainer=trainer)
    prefix = checkpoint.write(str(folder / "checkpoint"))

    def once_more():
        logs = trainer.train_step(*take(arrays, batches[0]))
        return {"logs": logs, **state(trainer)}

    found["next"] = once_more()
    checkpoint.read(prefix).assert_consumed()
    found["next_again"] = once_more()
    return found


def drive(trainer, folder, arrays, batches, epoch, threshold, factor):
    """The paper's rule, section 3.3, at each epoch's end."""
    history = []
    for start in range(0, len(batches), epoch):
        trainer.reset_metrics()
        for batch in batches[start : start + epoch]:
            logs = trainer.train_step(*take(arrays, batch))
        average = trainer.half_running_average()
        ratio = float(average["dissipation"] / average["fluctuation"])
        learning_rate = float(trainer.learning_rate())
        history.append((learning_rate, ratio, float(logs["loss"])))
        if abs(ratio - 1) < threshold:
            trainer.set_learning_rate(factor * learning_rate)
    return {"history": history, "state": state(trainer)}


def state(trainer):
    return {
        "variables": [v.numpy() for v in trainer.model_variables],
        "optimizer_variables": [v.numpy() for v in trainer.optimizer_variables],
        "observables": trainer.observables(),
        "averages": trainer.half_running_average(),
    }


def take(arrays, examples):
    return tf.nest.map_structure(lambda a: a[examples], arrays)


if __name__ == "__main__":
    main()
