"""What benchmarks of `fit` share: interleaved epochs, and a table of their times."""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.kept import keep, quartiles


class Timer(keras.callbacks.Callback):
    """Seconds of one epoch. To be listed first and last.

    Args:
        clock: Function that returns seconds.
    """

    def __init__(self, clock):
        super().__init__()
        self._clock, self._start = clock, None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock, before what the others do here."""
        self._start = self._start or self._clock()

    def on_epoch_end(self, epoch, logs=None):
        """Stops it, after what the others do here."""
        self.seconds = self._clock() - self._start


class Epochs:
    """The times of one epoch of `fit` of several models, in changing order.

    Two epochs of each are not counted: the first one traces.

    Args:
        sides: Dictionary from a name to a compiled model and its list of callbacks.
            The first is the one that the others are compared with.
        data: `(x, y)`.
        batch_size: Integer.
        args: Namespace of the parser that `options` makes.

    Attributes:
        steps: Integer, the steps that each model took in all.
        first: Dictionary from a name to the seconds of its first `fit`.
    """

    def __init__(self, sides, data, batch_size, args):
        self.first, self._seconds = {}, {name: [] for name in sides}
        self._epoch = -(-len(data[0]) // batch_size)
        self.steps = (args.repetitions + 2) * self._epoch
        clock = time.process_time if args.processor else time.perf_counter
        order = list(sides)
        for repetition in range(-2, args.repetitions):
            order.append(order.pop(0))
            for name in order:
                model, callbacks = sides[name]
                start, timer = clock(), Timer(clock)
                around = [timer, *callbacks, timer]
                model.fit(*data, batch_size, verbose=0, callbacks=around)
                self.first.setdefault(name, clock() - start)
                if repetition >= 0:
                    self._seconds[name].append(timer.seconds)

    def microseconds(self):
        """Dictionary from a name to the median time of a step."""
        return {
            name: round(float(np.median(times)) / self._epoch * 1e6, 1)
            for name, times in self._seconds.items()
        }

    def ratios(self):
        """Columns of a table. Ratios are taken within a repetition."""
        base, *others = self._seconds
        columns = {}
        for name in others:
            seconds = self._seconds[name], self._seconds[base]
            low, ratio, high = quartiles(np.divide(*seconds))
            title = f"{name}_over_{base}"
            columns[title] = ratio
            columns[f"{title}_quartiles"] = [low, high]
            fastest = min(seconds[0]) / min(seconds[1])
            columns[f"{title}_of_fastest"] = round(fastest, 3)
        return columns


def options(script, summary):
    """A parser with the options of every benchmark of `fit`.

    Args:
        script: Path of the script, next to which its results are.
        summary: String.
    """
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=0, help="0: TensorFlow's own")
    parser.add_argument(
        "--processor", action="store_true", help="time of the processor; --threads 1"
    )
    default = Path(script).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    return parser


def fill_table(args, what, key, cases, measure):
    """Times the cases and writes each row at once. Rows that are there are replaced.

    Args:
        args: Namespace of the parser that `options` makes.
        what: String, what the table holds.
        key: Tuple of strings, the columns that tell the rows apart.
        cases: Iterable of the arguments of `measure`, tuples.
        measure: Function that returns a row, a dictionary.
    """
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)

    def place(row):
        return tuple(row[name] for name in key)

    if args.processor:
        what += ", in processor time"
    rows = {}
    if args.output.exists():
        kept = json.loads(args.output.read_text())["rows"]
        rows = {place(row): row for row in kept}
    for case in cases:
        row = measure(*case)
        print(row, flush=True)
        rows[place(row)] = row
        keep(args.output, {"what": what, "rows": list(rows.values())})
        keras.backend.clear_session()
