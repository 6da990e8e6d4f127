"""How long `export_trainer` takes on a small model, by turns with `Model.export`.

    python -m benchmarks.export [--repetitions N] [--output FILE]

The model is the one of `examples/export_savedmodel.py`, a 64-64-10 network with
dropout. `keras.Model.export` writes its prediction alone; `export_trainer` writes that,
the train step, the record and the full-batch pass. "traced again" is `export_trainer`
with functions that were traced outside of the context of saving, as it was before: then
`tf.saved_model.save` traces each of them a second time. The three take turns in one
process, after one round that is not counted. Kept are quartiles of seconds on the clock
and of seconds of the processor. The latter depend less on what else runs.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import keras

from benchmarks.kept import keep, quartiles
from keras_fdr import FDRSGD, _compat, export_trainer


def build_model():
    """The network of the example, compiled with `FDRSGD`."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        FDRSGD(0.05, momentum=0.9, l2=0.01),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def main():
    """Times the three ways and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=9)
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    model = build_model()
    traced_once = _compat.traced_for_saving

    def trainer(context):
        def export(folder):
            _compat.traced_for_saving = context
            export_trainer(model, folder)

        return export

    ways = {
        "Model.export": lambda folder: model.export(folder, verbose=False),
        "export_trainer": trainer(traced_once),
        "export_trainer, traced again": trainer(contextlib.nullcontext),
    }
    seconds = {name: {"clock": [], "processor": []} for name in ways}
    for repetition in range(args.repetitions + 1):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                clock, processor = time.perf_counter(), time.process_time()
                way(folder)
                times = {
                    "clock": time.perf_counter() - clock,
                    "processor": time.process_time() - processor,
                }
            if repetition:
                for kind, value in times.items():
                    seconds[name][kind].append(value)
    rows = [
        {"way": name, **{f"{k}_seconds": quartiles(v) for k, v in of.items()}}
        for name, of in seconds.items()
    ]
    for row in rows:
        print(row)
    keep(
        args.output,
        {
            "what": "one export of a 64-64-10 network, quartiles of seconds",
            "repetitions": args.repetitions,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
