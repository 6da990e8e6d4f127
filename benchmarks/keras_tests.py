"""Keras' own tests, run with FDRSGD in place of the optimizers that they compile with.

    python benchmarks/keras_tests.py [--output FILE] [--only GROUP ...]

The tests are those of the installed Keras, whose wheel holds them, with two changes.
`SGD` is FDRSGD, wherever a test makes one. Every other optimizer that is given to
`compile` is replaced by FDRSGD with the same name, learning rate, clipping and so on.
No test gets an `FDRCallback`, so what needs one is refused. Tests that fail are run
again with stock Keras. Those that pass there are listed with what they said:

    refused   an error of this package that states a rule and what was received
    differs   another number, name or structure than the test expects; see REASONS
    crash     any other error

Tests that fail with stock Keras as well are counted only, and so are files that cannot
be imported because PyTorch, Grain or ONNX is missing. Each group has a process of its
own. Writes JSON and prints a table for the docs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import types
from collections import Counter
from pathlib import Path

GROUPS = {
    "sgd_test": ["optimizers/sgd_test.py"],
    "optimizer_test": ["optimizers/optimizer_test.py"],
    "loss_scale_optimizer_test": ["optimizers/loss_scale_optimizer_test.py"],
    "optimizer_distribute_test": ["backend/tensorflow/optimizer_distribute_test.py"],
    "callbacks": ["callbacks"],
    "trainers": ["trainers"],
    "saving": ["saving"],
    "export": ["export"],
    "models": ["models"],
}
# Why a test differs, by a part of its name.
REASONS = {
    "test_invalid_momentum": "The error says the same in other words.",
    "test_optimizer_auto_naming": "The default name is `fdrsgd`, that of the class.",
    "test_tf_checkpointing": "The test saves the optimizer that it made beside the "
    "model, which trains with the one that this script put in its place.",
    "test_scalar_weight": "The test counts the slots of Adam in a file. FDRSGD without "
    "momentum has none.",
    "test_saved_module_paths_and_class_names": "The test compares the saved "
    "configuration with that of Adam.",
    "test_adds_loss_scaling_optimizer": "The test expects that an RMSprop trains.",
    "test_fit_sparse": "The test watches an Adagrad for sparse updates. FDRSGD makes "
    "gradients dense, since it measures all weights.",
}
_SHARED = (
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)


def replacement(optimizer):
    """The FDRSGD for what a test gave to `compile`."""
    import keras

    from keras_fdr import FDRSGD

    if isinstance(optimizer, str):
        optimizer = keras.optimizers.get(optimizer)
    if not type(optimizer).__module__.startswith("keras.src.optimizers"):
        return optimizer
    wrappers = keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer
    if isinstance(optimizer, wrappers):
        return optimizer
    rate = optimizer._learning_rate
    rate = float(rate) if isinstance(rate, keras.Variable) else rate
    shared = {name: getattr(optimizer, name) for name in _SHARED}
    return FDRSGD(rate, name=optimizer.name, **shared)


def swap():
    """Puts FDRSGD in the place of `SGD`, and of what is given to `compile`."""
    import keras
    from keras.src import optimizers
    from keras.src.optimizers import sgd
    from keras.src.trainers.trainer import Trainer

    from keras_fdr import FDRSGD

    for module in (optimizers, sgd, keras.optimizers):
        module.SGD = FDRSGD
    optimizers.ALL_OBJECTS_DICT["sgd"] = FDRSGD
    stock = Trainer.compile

    def compile(self, optimizer="rmsprop", *arguments, **options):
        return stock(self, replacement(optimizer), *arguments, **options)

    Trainer.compile = compile


class Recorder:
    """A plugin of pytest that keeps how each test ended."""

    def __init__(self):
        self.tests = {}
        self.broken = []

    def pytest_collectreport(self, report):
        """Notes files that cannot be imported."""
        if report.failed:
            self.broken.append(report.nodeid)

    def pytest_runtest_makereport(self, item, call):
        """Notes the outcome of one phase of a test."""
        name = item.nodeid
        if call.excinfo is None:
            self.tests.setdefault(name, {"outcome": "passed"})
            return
        error, kind = call.excinfo.value, call.excinfo.typename
        if kind in ("SkipTest", "Skipped"):
            self.tests[name] = {"outcome": "skipped"}
            return
        ours = any("keras_fdr" in str(entry.path) for entry in call.excinfo.traceback)
        self.tests[name] = {
            "outcome": "failed",
            "error": kind,
            "ours": ours,
            "message": " ".join(str(error).split())[:600],
        }


def run(tests, swapped, output):
    """Runs tests in this process and writes how they ended."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import pytest

    # Some tests import a decorator from the `conftest.py` of Keras' repository.
    conftest = types.ModuleType("conftest")
    conftest.skip_if_backend = lambda backend, reason: pytest.mark.skipif(
        backend == "tensorflow", reason=reason
    )
    sys.modules["conftest"] = conftest
    keras.config.disable_traceback_filtering()
    if swapped:
        swap()
    recorder = Recorder()
    home = Path(keras.__path__[0]) / "src"
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore"]
    options += [
        "--continue-on-collection-errors",
        f"--rootdir={home}",
        "-c",
        os.devnull,
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        pytest.main([*options, *(str(home / p) for p in tests)], plugins=[recorder])
    result = {"tests": recorder.tests, "broken": sorted(set(recorder.broken))}
    Path(output).write_text(json.dumps(result))


def in_a_process(tests, swapped):
    """The result of `run`, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        chosen, output = Path(folder, "tests.json"), Path(folder, "result.json")
        chosen.write_text(json.dumps(tests))
        command = [sys.executable, __file__, "--run", chosen, "--output", output]
        command += ["--swapped"] if swapped else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not output.exists():
            raise SystemExit(f"{tests}: the process died\n{done.stdout}{done.stderr}")
        return json.loads(output.read_text())


def compare(tests):
    """How the tests ended with FDRSGD: counts, and those that are not the same."""
    result = in_a_process(tests, swapped=True)
    counts, others = Counter(cannot_be_imported=len(result["broken"])), {}
    failed = [t for t, a in result["tests"].items() if a["outcome"] == "failed"]
    stock = in_a_process(failed, swapped=False)["tests"] if failed else {}
    for name, after in result["tests"].items():
        if after["outcome"] != "failed":
            counts[after["outcome"]] += 1
        elif stock[name]["outcome"] == "failed":
            counts["fails with stock Keras"] += 1
        else:
            verdict, reason = judge(name, after)
            about = {k: after[k] for k in ("error", "message")}
            others[name] = {"verdict": verdict, "reason": reason, **about}
            counts[verdict] += 1
    return counts, others


def judge(name, after):
    """`(verdict, reason)` of a test that passes with stock Keras alone."""
    message, kind = after.get("message", ""), after["error"]
    stated = kind in ("ValueError", "TypeError") and "Received:" in message
    if stated and after["ours"]:
        return "refused", message.split(" Received:")[0]
    for part, reason in REASONS.items():
        if part in name:
            return "differs", reason
    return "differs" if kind == "AssertionError" else "crash", None


def table(groups):
    """Lines of Markdown, one for each group."""
    columns = [
        "passed",
        "refused",
        "differs",
        "crash",
        "fails with stock Keras",
        "skipped",
    ]
    yield f"| tests | {' | '.join(columns)} |"
    yield f"|---{'|---' * len(columns)}|"
    for group, counts in groups.items():
        yield f"| {group} | {' | '.join(str(counts.get(c, 0)) for c in columns)} |"


def main():
    """Runs all groups, or one of them for another process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(GROUPS))
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_suffix(".json")
    )
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--swapped", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        tests = json.loads(arguments.run.read_text())
        run(tests, arguments.swapped, arguments.output)
        return
    from kept import keep

    # Groups that are not run again stay in the file.
    output = arguments.output
    kept = json.loads(output.read_text()) if output.exists() else {}
    groups, others = kept.get("groups", {}), kept.get("not_the_same", {})
    for group in arguments.only:
        groups[group], others[group] = compare(GROUPS[group])
        print(group, dict(groups[group]), flush=True)
        for name, about in others[group].items():
            print(f"  {about['verdict']:8} {name}: {about['reason']}", flush=True)
        keep(output, {"groups": groups, "not_the_same": others})
    print("\n".join(table({g: groups[g] for g in GROUPS if g in groups})))


if __name__ == "__main__":
    main()
