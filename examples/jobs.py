"""Long runs in separate processes, which show the time left and can be resumed."""

import json
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path

import keras
import tensorflow as tf
from tqdm import tqdm

import keras_fdr


def versions():
    """The versions of the software with which numbers were made."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        commit = ""
    return {
        "keras_fdr": keras_fdr.__version__,
        "commit": commit,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }


def prepare(folder, resume, **settings):
    """Creates the folder of a run, or resumes the run that is in it.

    Args:
        folder: Path.
        resume: Boolean, whether to resume an earlier run.
        **settings: The settings with which the run must have begun.

    Raises:
        SystemExit: If there is a run and `resume` is false, or it had other settings.
    """
    kept = folder / "settings.json"
    if folder.exists() and not resume:
        raise SystemExit(
            "A folder with a run in it is used only with --resume. Add it, or use "
            f"another --output. Received: {folder}"
        )
    if kept.exists() and (began := json.loads(kept.read_text())) != settings:
        raise SystemExit(
            "A run resumes with the settings it began with. Use the same settings, or "
            f"another --output. Received: {settings} instead of {began} in {folder}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(settings) + "\n")


def run_jobs(function, jobs, processes, epochs):
    """Calls `function(*job)` for all jobs in separate processes.

    Several processes have one thread each. One process for each core does more steps a
    second than a single process that shares each step between the cores.

    Args:
        function: A function of a module. It calls `report`.
        jobs: List of tuples.
        processes: Integer, how many processes run at once.
        epochs: Integer, how many epochs all jobs report together.

    Returns:
        List of what the function returned.
    """
    if not jobs:
        return []
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    processes = min(processes, len(jobs))
    # A terminal sees every change, a file one line a minute.
    interval = 0.1 if sys.stdout.isatty() else 60
    with (
        tqdm(total=epochs, unit="epoch", file=sys.stdout, mininterval=interval) as bar,
        ProcessPoolExecutor(
            processes, context, initializer=_begin, initargs=(queue, processes > 1)
        ) as pool,
    ):
        waiting = [pool.submit(function, *job) for job in jobs]
        left = set(waiting)
        while left:
            done, left = wait(left, timeout=1)
            while not queue.empty():
                done_now, earlier = queue.get()
                # Epochs of an earlier call tell nothing about the speed.
                bar.initial += done_now * earlier
                bar.update(done_now)
            if any(job.exception() for job in done):
                for job in left:
                    job.cancel()
                break
    return [job.result() for job in waiting if not job.cancelled()]


_queue = None


def _begin(queue, one_thread):
    global _queue
    _queue = queue
    if one_thread:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def report(epochs, earlier=False):
    """Tells the waiting process how many epochs have ended.

    Args:
        epochs: Integer, how many epochs.
        earlier: Boolean, whether an earlier call trained them. Defaults to `False`.
    """
    _queue.put((epochs, earlier))
