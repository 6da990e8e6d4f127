"""Time of a full-batch pass over MNIST, against a hand-written TensorFlow loop.

    python -m benchmarks.full_batch [--data-dir DIR] [--output FILE]

Both go over the same batches of the same `tf.data.Dataset` with the same network, the
MLP of appendix B.1, and give loss, gradient and accuracy. The hand-written loop is the
faster of two: the gradient carried through the loop as tensors, or added to variables.
Runs are interleaved in one process; ratios are medians over the repetitions.

Then the pass as a user calls it, on arrays, over two things: the number of examples
times the best forward-backward time for an example, of one batch that stays in memory,
over batch sizes; and an epoch of `fit` at batch 100. Writes JSON.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.kept import keep, load, mlp, quartiles
from keras_fdr import FDRSGD, FullBatchPass

L2 = 0.01


def build_model():
    """The MLP of appendix B.1."""
    model = mlp()
    model.compile(
        optimizer=FDRSGD(l2=L2),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def carried(model, dataset):
    """Loss, accuracy and gradient carried through the loop as tensors."""
    weights = [w.value for w in model.trainable_variables]

    @tf.function
    def run():
        loss, correct, count = tf.constant(0.0), tf.constant(0.0), tf.constant(0.0)
        total = tuple(tf.zeros(w.shape) for w in weights)
        for x, y in dataset:
            with tf.GradientTape() as tape:
                predictions = model(x, training=False)
                losses = keras.losses.sparse_categorical_crossentropy(y, predictions)
                batch_loss = tf.reduce_sum(losses)
            gradient = tape.gradient(batch_loss, weights)
            total = tuple(t + g for t, g in zip(total, gradient))  # noqa: B905
            loss += batch_loss
            hits = tf.equal(tf.argmax(predictions, 1), y)
            correct += tf.reduce_sum(tf.cast(hits, tf.float32))
            count += tf.cast(tf.shape(x)[0], tf.float32)
        gradient = [t / count + L2 * w for t, w in zip(total, weights, strict=True)]
        regularisation = L2 * tf.add_n([tf.nn.l2_loss(w) for w in weights])
        return loss / count + regularisation, correct / count, gradient

    return run


def in_variables(model, dataset):
    """The same with the gradient added to variables."""
    weights = [w.value for w in model.trainable_variables]
    total = [tf.Variable(tf.zeros(w.shape), trainable=False) for w in weights]

    @tf.function
    def run():
        loss, correct, count = tf.constant(0.0), tf.constant(0.0), tf.constant(0.0)
        for t in total:
            t.assign(tf.zeros_like(t))
        for x, y in dataset:
            with tf.GradientTape() as tape:
                predictions = model(x, training=False)
                losses = keras.losses.sparse_categorical_crossentropy(y, predictions)
                batch_loss = tf.reduce_sum(losses)
            for t, g in zip(total, tape.gradient(batch_loss, weights), strict=True):
                t.assign_add(g)
            loss += batch_loss
            hits = tf.equal(tf.argmax(predictions, 1), y)
            correct += tf.reduce_sum(tf.cast(hits, tf.float32))
            count += tf.cast(tf.shape(x)[0], tf.float32)
        gradient = [t / count + L2 * w for t, w in zip(total, weights, strict=True)]
        regularisation = L2 * tf.add_n([tf.nn.l2_loss(w) for w in weights])
        return loss / count + regularisation, correct / count, gradient

    return run


def forward_backward(model, x, y):
    """Loss and gradient of one batch that stays in memory."""
    weights = [w.value for w in model.trainable_variables]
    x, y = tf.constant(x), tf.constant(y)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            predictions = model(x, training=False)
            losses = keras.losses.sparse_categorical_crossentropy(y, predictions)
            loss = tf.reduce_mean(losses)
        gradient = tape.gradient(loss, weights)
        return tf.add_n([tf.reduce_sum(g) for g in gradient])

    return run


def as_called(model, x, y, repetitions):
    """The pass on arrays, over the best possible and over an epoch."""
    full_batch_pass = FullBatchPass(model, (x, y))
    sizes = (100, 500, 1000, 2000, 5000)
    batches = {n: forward_backward(model, x[:n], y[:n]) for n in sizes}
    per_example = {n: [] for n in sizes}
    seconds = {"pass": [], "epoch": []}
    for repetition in range(repetitions + 2):
        times = {}
        for n, run in batches.items():
            calls = max(1, 10_000 // n)
            start = time.perf_counter()
            for _ in range(calls):
                run().numpy()
            times[n] = (time.perf_counter() - start) / calls / n
        start = time.perf_counter()
        full_batch_pass(gradient=True)
        took = time.perf_counter() - start
        start = time.perf_counter()
        model.fit(x, y, batch_size=100, verbose=0)
        epoch = time.perf_counter() - start
        if repetition >= 2:
            seconds["pass"].append(took)
            seconds["epoch"].append(epoch)
            for n in sizes:
                per_example[n].append(times[n])
    best = min(sizes, key=lambda n: np.median(per_example[n]))
    passes = np.array(seconds["pass"])
    ideal = len(x) * np.array(per_example[best])
    return {
        "pass_seconds": round(float(np.median(passes)), 4),
        "microseconds_an_example": {
            n: round(float(np.median(t)) * 1e6, 3) for n, t in per_example.items()
        },
        "best_batch_size": best,
        "over_best": quartiles(passes / ideal),
        "over_epoch_of_batch_100": quartiles(passes / np.array(seconds["epoch"])),
    }


def main():
    """Times both at three batch sizes and writes the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets")
    parser.add_argument("--repetitions", type=int, default=15)
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()

    keras.utils.set_random_seed(0)
    (x, y), _ = load("mnist", args.data_dir)
    model = build_model()
    everything = tf.data.Dataset.from_tensor_slices((x.reshape(-1, 784), y))
    rows = []
    for batch_size in (100, 1000, 5000):
        dataset = everything.batch(batch_size).cache().prefetch(2)
        full_batch_pass = FullBatchPass(model, dataset)
        loops = {
            "pass": lambda p=full_batch_pass: p(gradient=True),
            "carried": carried(model, dataset),
            "in_variables": in_variables(model, dataset),
        }
        start = time.perf_counter()
        ours = full_batch_pass(gradient=True)
        first_call = time.perf_counter() - start
        loss, accuracy, gradient = loops["carried"]()
        assert abs(ours.loss - float(loss)) < 1e-5
        assert abs(ours.metrics["accuracy"] - float(accuracy)) < 1e-6
        for a, b in zip(ours.gradient, gradient, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        traces = tracing_count(full_batch_pass)
        seconds = {name: [] for name in loops}
        for repetition in range(args.repetitions + 2):
            for name, loop in loops.items():
                start = time.perf_counter()
                result = loop()
                if name != "pass":
                    result[0].numpy()
                if repetition >= 2:
                    seconds[name].append(time.perf_counter() - start)
        assert tracing_count(full_batch_pass) == traces, "retraced"
        medians = {name: float(np.median(s)) for name, s in seconds.items()}
        best = min(("carried", "in_variables"), key=medians.get)
        ratios = np.array(seconds["pass"]) / np.array(seconds[best])
        low, ratio, high = quartiles(ratios)
        row = {
            "batch_size": batch_size,
            "seconds": {name: round(s, 4) for name, s in medians.items()},
            "first_call_seconds": round(first_call, 3),
            "best_hand_written": best,
            "ratio": ratio,
            "ratio_quartiles": [low, high],
        }
        print(row)
        rows.append(row)
    result = {
        "what": "full-batch pass over MNIST over the best hand-written loop",
        "repetitions": args.repetitions,
        "rows": rows,
        "as_called": as_called(model, x.reshape(-1, 784), y, args.repetitions),
    }
    print(result["as_called"])
    keep(args.output, result)


def tracing_count(full_batch_pass):
    """How often the pass has been traced so far."""
    return full_batch_pass._advance.experimental_get_tracing_count()


if __name__ == "__main__":
    main()
