"""Long runs in processes of their own, with the time left, that can be gone on with."""

import json
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path

import keras
import tensorflow as tf

import keras_fdr


def versions():
    """What numbers were made with."""
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
    """Makes a folder for a run; one that has a run in it is gone on with.

    Args:
        folder: Path.
        resume: Boolean, whether going on is wanted.
        **settings: What the run must have begun with.

    Raises:
        SystemExit: If there is a run and `resume` is false, or it began otherwise.
    """
    kept = folder / "settings.json"
    if folder.exists() and not resume:
        raise SystemExit(
            "A folder with a run in it is gone on with only with --resume: add it, or "
            f"take another --output. Received: {folder}"
        )
    if kept.exists() and (began := json.loads(kept.read_text())) != settings:
        raise SystemExit(
            "A run goes on with the settings it began with: take these, or another "
            f"--output. Received: {settings} instead of {began} in {folder}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(settings) + "\n")


def run_jobs(function, jobs, processes, epochs):
    """Calls `function(*job)` for all jobs in processes of their own.

    With one thread each, as many as there are cores do more steps a second than one
    that shares each step between the cores.

    Args:
        function: Of a module; it calls `report`.
        jobs: List of tuples.
        processes: Integer, how many at once.
        epochs: Integer, how many all jobs report together.

    Returns:
        List of what the function returned.
    """
    if not jobs:
        return []
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    processes = min(processes, len(jobs))
    progress = Progress(epochs)
    with ProcessPoolExecutor(
        processes, context, initializer=_begin, initargs=(queue, processes > 1)
    ) as pool:
        waiting = [pool.submit(function, *job) for job in jobs]
        left = set(waiting)
        while left:
            done, left = wait(left, timeout=1)
            while not queue.empty():
                progress.add(*queue.get())
            if any(job.exception() for job in done):
                for job in left:
                    job.cancel()
                break
    progress.end()
    return [job.result() for job in waiting if not job.cancelled()]


_queue = None


def _begin(queue, one_thread):
    global _queue
    _queue = queue
    if one_thread:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def report(epochs, earlier=False):
    """Tells the process that waits of epochs that are done.

    Args:
        epochs: Integer, how many.
        earlier: Boolean, whether an earlier call trained them. Defaults to `False`.
    """
    _queue.put((epochs, earlier))


class Progress:
    """A line with the time left: rewritten on a terminal, else one a minute.

    Args:
        epochs: Integer, how many there are in all.
    """

    def __init__(self, epochs):
        self._epochs = epochs
        self._done = self._earlier = self._shown = 0
        self._start = self._last = time.monotonic()
        self._speed_from = None
        self._terminal = sys.stdout.isatty()

    def add(self, epochs, earlier=False):
        """Counts epochs; those of an earlier call say nothing of the speed."""
        self._done += epochs
        self._earlier += epochs * earlier
        now = time.monotonic()
        new = self._done - self._earlier
        if new and self._speed_from is None:
            # What comes before is mostly compilation.
            self._speed_from = now, new
        if new and (self._terminal or now - self._last > 60):
            self._last = now
            self._show()

    def end(self):
        """Shows the last line, once."""
        if self._shown != self._done:
            self._show()
        if self._terminal:
            print()

    def _show(self):
        now, self._shown = time.monotonic(), self._done
        line = f"epoch {self._done} of {self._epochs} in all"
        line += f", {_clock(now - self._start)} gone"
        since, first = self._speed_from or (now, 0)
        if (new := self._done - self._earlier - first) > 0:
            left = (now - since) * (self._epochs - self._done) / new
            line += f", {_clock(left)} left"
        # Blanks over the rest of a longer line.
        print(f"\r{line:60}" if self._terminal else line, end="", flush=True)
        if not self._terminal:
            print(flush=True)


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
