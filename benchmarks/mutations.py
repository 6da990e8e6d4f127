"""How many small faults in the package do the tests catch?

Each fault changes one place of one file in a copy of the package: a comparison, a sign,
a number, a condition, a result, or a call that is left out. The tests of the room that
holds the fault then run until one fails. A fault that no test notices has survived:
either a test is missing, or the fault changes nothing that can be observed. Then a
person writes the outcome `equivalent` into the results, with the reason. Where a person
has added a test since, `caught_later_by` names its file.

    python -m benchmarks.mutations [--faults 100] [--seed 0] [--limit 300]

Run it from the root of the clone. Faults that the results already hold are skipped, so
a run that was stopped resumes. `--again` runs those once more that were not caught.

A fault is undecided if its tests reach the time limit. Two kinds of places take no
fault, since none could be observed: text in messages, and the `strict=True` of `zip`.
"""

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_suffix(".json")
COPIED = ("keras_fdr", "tests", "examples", "benchmarks", "docs")
FILES = ("README.md", "pyproject.toml", "CHANGELOG.md", "CONTRIBUTING.md")
LANES = "not (slow or process)"
OUTCOMES = ("caught", "survived", "undecided", "equivalent")

# The tests of a room, the fastest first. Processes and examples are left out.
TESTS = {
    "arguments": "rules record optimizer sweep_arguments callback",
    "files": "sweep_files record",
    "notices": "notices",
    "requirements": "notices",
    "snapshot": "full_batch_state sweep export_contract",
    "saving": "checkpoints serialisation golden",
    "record": "record half_running threshold_rule",
    "data": "full_batch_inputs full_batch sweep callback_full_batch",
    "products": "products identity changes_from_outside",
    "rules": "rules threshold_rule published_rules variable_verdicts plots",
    "observables": "half_running observables per_variable identity callback",
    "distribution": "replica_shares replicas prepare_distributed workers",
    "optimizer": "optimizer serialisation changes_from_outside checkpoints identity",
    "full_batch": "full_batch full_batch_inputs full_batch_state full_batch_weights "
    "full_batch_refusals callback_full_batch curvature",
    "restart": "workers backup callback_list prepare_distributed",
    "measure": "measure schedules changes_from_outside",
    "callback": "callback callback_full_batch serialisation callback_list notices "
    "changes_from_outside prepare_distributed",
    "export": "export_contract model_export export",
    "landscape": "landscape_statistics landscape_verdict sweep_table sweep_arguments "
    "sweep_join "
    "sweep_files sweep_resume sweep curvature plots sweep_statistics",
    "plots": "plots per_variable",
    "_compat": "callback_list full_batch curvature optimizer prepare_distributed "
    "replica_shares products devices backup",
}

SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def children(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below a node that do something when the program runs."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.keyword) and child.arg == "strict":
                continue
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield child
                yield from children(child)


def faulty(node: ast.AST) -> ast.AST | None:
    """The node with a fault in it, or `None` where there is none to make."""
    match node:
        case ast.Compare(left, [operator, *more], right) if type(operator) in SWAPS:
            return ast.Compare(left, [SWAPS[type(operator)](), *more], right)
        case ast.BinOp(left, operator, right) if type(operator) in SWAPS:
            return ast.BinOp(left, SWAPS[type(operator)](), right)
        case ast.BoolOp(operator, values):
            return ast.BoolOp(SWAPS[type(operator)](), values)
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            return operand
        case ast.Constant(bool(value)):
            return ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            return ast.Constant(value + 1)
        case ast.If(test, body, otherwise) if "TYPE_CHECKING" not in ast.unparse(test):
            return ast.If(ast.UnaryOp(ast.Not(), test), body, otherwise)
        case ast.Return(ast.expr() as value) if ast.unparse(value) != "None":
            return ast.Return(ast.Constant(None))
        case ast.Expr(ast.Call()):
            return ast.Pass()
    return None


def put(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    """Puts one node in the place of another."""
    for parent in (tree, *children(tree)):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list) and any(item is old for item in value):
                value[:] = [new if item is old else item for item in value]


def places() -> list[tuple[str, int]]:
    """Every place of the package that can take a fault: a file and a number."""
    found = []
    for path in sorted((ROOT / "keras_fdr").rglob("*.py")):
        nodes = list(children(ast.parse(path.read_text())))
        name = path.relative_to(ROOT).as_posix()
        if path.name not in ("__init__.py", "_version.py"):
            found += [(name, i) for i, n in enumerate(nodes) if faulty(n) is not None]
    return found


def tests_of(name: str) -> list[str]:
    """The test files of the room that a file is in."""
    room = Path(name).parts[1].removesuffix(".py")
    return [f"tests/test_{test}.py" for test in TESTS[room].split()]


def make_fault(name: str, number: int) -> tuple[dict[str, Any], str]:
    """What a fault is, and the text of its file with the fault in it."""
    tree = ast.parse((ROOT / name).read_text())
    old = list(children(tree))[number]
    new = faulty(old)
    assert new is not None
    before, after = (ast.unparse(ast.fix_missing_locations(n)) for n in (old, new))
    put(tree, old, new)
    fault = {
        "file": name,
        "number": number,
        "line": getattr(old, "lineno", 0),
        "before": before.splitlines()[0],
        "after": after.splitlines()[0],
    }
    return fault, ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def try_fault(name: str, text: str, copy: Path, limit: float | None) -> dict[str, Any]:
    """Runs the tests of a room with the given text in one of its files."""
    (copy / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-m", LANES]
    command += ["--tb=no", "-p", "no:cacheprovider", *tests_of(name)]
    start = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            timeout=limit,
        )
        words = ("FAILED ", "ERROR ")
        failed = [line for line in done.stdout.splitlines() if line.startswith(words)]
        outcome = "survived" if done.returncode == 0 else "caught"
        by = failed[0].split(" - ")[0] if failed else done.stdout[-200:]
    except subprocess.TimeoutExpired:
        outcome, by = "undecided", ""
    finally:
        shutil.copy(ROOT / name, copy / name)
    return {
        "outcome": outcome,
        "by": by if outcome == "caught" else "",
        "seconds": round(time.monotonic() - start, 1),
    }


def what(fault: dict[str, Any]) -> tuple[str, ...]:
    """What tells one fault from another, although lines move."""
    return tuple(str(fault[name]) for name in ("file", "number", "before", "after"))


def main() -> None:
    """Runs the faults and keeps the results after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=300, help="seconds a fault")
    parser.add_argument(
        "--again", action="store_true", help="run what was not caught again"
    )
    arguments = parser.parse_args()
    kept = json.loads(RESULTS.read_text())["faults"] if RESULTS.exists() else []
    known = {what(fault): fault for fault in kept}
    chosen = random.Random(arguments.seed).sample(places(), arguments.faults)
    passing: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, copy / name)
        for name in FILES:
            shutil.copy(ROOT / name, copy / name)
        for name, number in tqdm(chosen, unit="fault"):
            fault, text = make_fault(name, number)
            old = known.get(what(fault))
            if old and not (
                arguments.again and old["outcome"] in ("survived", "undecided")
            ):
                continue
            room = Path(name).parts[1]
            if room not in passing:
                # Without a fault all tests of the room must pass.
                original = (ROOT / name).read_text()
                if try_fault(name, original, copy, None)["outcome"] != "survived":
                    raise SystemExit(f"Tests fail without a fault: {tests_of(name)}")
                passing.add(room)
            known[what(fault)] = fault | try_fault(name, text, copy, arguments.limit)
            write([*known.values()], arguments)
    counts = [fault["outcome"] for fault in known.values()]
    print(f"{counts.count('caught')} of {len(counts)} faults were caught.")


def write(faults: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Writes the results, with what they were made with."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True)
    counts = [fault["outcome"] for fault in faults]
    content = {
        "commit": done.stdout.strip(),
        "seed": arguments.seed,
        "limit": arguments.limit,
        "cores": os.cpu_count(),
        **{name: counts.count(name) for name in OUTCOMES},
        "caught_later": sum("caught_later_by" in fault for fault in faults),
        "faults": faults,
    }
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
