"""What measuring costs on one and on two worker processes.

    python -m benchmarks.replicas [--rounds N] [--output FILE]

The network of appendix B.1 (784-200-200-10) on random images, batches of 100,
50 steps an execution, `MultiWorkerMirroredStrategy` with 1 and with 2 processes on
loopback, each with one thread for an operation. In every process `fit` runs one epoch
of 200 batches with `keras.optimizers.SGD` and one with `FDRSGD` and `FDRCallback`, in
turn, ROUNDS times, after one of each to compile; then ROUNDS full-batch passes over
20,000 examples.

Reported for each number of processes: medians and quartiles of the time of a step, the
ratio of the two optimizers round by round, and the time of a pass. What the collectives
carry is counted, not timed: bytes a step that a replica contributes.
"""

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path

STEPS, BATCH, FEATURES, WIDTH, CLASSES = 200, 100, 784, 200, 10
EXAMPLES = STEPS * BATCH


def launch(workers, rounds):
    """Starts the processes; returns what the first one measured."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    children = []
    for index in range(workers):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": addresses}, "task": task}
        environment = {
            **os.environ,
            "TF_CONFIG": json.dumps(config),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        command = [sys.executable, __file__, "--worker", "--rounds", str(rounds)]
        children.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, text=True
            )
        )
    outputs = [child.communicate(timeout=1800)[0] for child in children]
    if any(child.returncode for child in children):
        raise SystemExit(f"A worker failed:\n{outputs}")
    return json.loads(outputs[0].splitlines()[-1])


def work(rounds):
    """One worker."""
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_fdr import FDRSGD, FDRCallback, FullBatchPass, prepare_distributed

    # Two processes on two cores: more threads would wait for each other.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, EXAMPLES)

    def network(optimizer):
        with strategy.scope():
            model = keras.Sequential(
                [
                    keras.Input((FEATURES,)),
                    keras.layers.Dense(WIDTH, "relu"),
                    keras.layers.Dense(WIDTH, "relu"),
                    keras.layers.Dense(CLASSES, "softmax"),
                ]
            )
            model.compile(
                optimizer(),
                loss="sparse_categorical_crossentropy",
                steps_per_execution=50,
            )
        return prepare_distributed(model)

    stock = network(lambda: keras.optimizers.SGD(0.01, 0.9))
    ours = network(lambda: FDRSGD(0.01, 0.9))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    dataset = dataset.with_options(options)

    def epoch(model, callbacks):
        start = time.perf_counter()
        model.fit(dataset, verbose=0, shuffle=False, callbacks=callbacks)
        return time.perf_counter() - start

    callback = FDRCallback(factor=None)
    times = {"stock": [], "ours": []}
    for _ in range(rounds + 1):
        times["stock"].append(epoch(stock, []))
        times["ours"].append(epoch(ours, [callback]))
    full_batch_pass = FullBatchPass(ours, (x, y))
    passes = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        full_batch_pass()
        passes.append(time.perf_counter() - start)
    size = sum(int(np.prod(w.shape)) for w in ours.trainable_weights)
    result = {
        "stock": times["stock"][1:],
        "ours": times["ours"][1:],
        "passes": passes[1:],
        "weights": size,
    }
    print(json.dumps(result))


def summary(workers, raw):
    """Medians and quartiles of one number of processes."""
    import numpy as np

    def quartiles(values, digits):
        q = np.quantile(values, [0.25, 0.5, 0.75])
        return [round(float(v), digits) for v in q]

    ratio = np.divide(raw["ours"], raw["stock"])
    return {
        "processes": workers,
        "stock_us_per_step": quartiles(np.divide(raw["stock"], STEPS) * 1e6, 0),
        "fdr_us_per_step": quartiles(np.divide(raw["ours"], STEPS) * 1e6, 0),
        "fdr_over_stock": quartiles(ratio, 3),
        "seconds_per_full_batch_pass": quartiles(raw["passes"], 4),
        # float32 gradients; then loss and count of examples as float64.
        "gradient_bytes_per_step": 4 * raw["weights"],
        "fdr_bytes_per_step": 16,
    }


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments.rounds)
    import keras
    import tensorflow as tf

    rows = [summary(n, launch(n, arguments.rounds)) for n in (1, 2)]
    result = {
        "python": platform.python_version(),
        "keras": keras.version(),
        "tensorflow": tf.version.VERSION,
        "cores": os.cpu_count(),
        "rounds": arguments.rounds,
        "rows": rows,
    }
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
