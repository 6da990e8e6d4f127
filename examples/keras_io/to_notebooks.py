"""Turn the tutorials into notebooks with their outputs.

    python examples/keras_io/to_notebooks.py

runs every tutorial and writes `docs/tutorials/*.ipynb`, which the site shows. With
names of tutorials as arguments it runs only those. tensorflow-datasets provides MNIST.
"""

import argparse
import ast
import os
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

FOLDER = Path(__file__).parent
NOTEBOOKS = FOLDER.parent.parent / "docs" / "tutorials"
TUTORIALS = sorted(
    path for path in FOLDER.glob("*.py") if path.name != Path(__file__).name
)
FIELDS = (
    "Title",
    "Author",
    "Date created",
    "Last modified",
    "Description",
    "Accelerator",
)


def header(docstring):
    """The fields of a tutorial's docstring, by name."""
    return dict(line.split(": ", 1) for line in docstring.strip().splitlines())


def cells(source):
    """Splits a tutorial into the cells of a notebook.

    A triple-quoted string that stands on its own is a cell of prose. The code between
    two of them is a cell of code.

    Args:
        source: The text of a tutorial.

    Returns:
        List of pairs `(kind, text)`, with the kind `"markdown"` or `"code"`.
    """
    lines = source.splitlines()
    first, *statements = ast.parse(source).body
    fields = header(first.value.value)
    title = f"# {fields['Title']}\n\n*{fields['Description']}*"
    found = [("markdown", title)]
    code_from = first.end_lineno
    for statement in statements:
        value = getattr(statement, "value", None)
        if not isinstance(statement, ast.Expr) or not isinstance(value, ast.Constant):
            continue
        code = "\n".join(lines[code_from : statement.lineno - 1]).strip("\n")
        found.append(("code", code))
        found.append(("markdown", value.value.strip()))
        code_from = statement.end_lineno
    found.append(("code", "\n".join(lines[code_from:]).strip("\n")))
    return [(kind, text) for kind, text in found if text]


def notebook(source):
    """The notebook of a tutorial, without outputs."""
    make = {"markdown": new_markdown_cell, "code": new_code_cell}
    # The ids are numbers, so that the same tutorial always gives the same file.
    made = [make[kind](text, id=f"{i}") for i, (kind, text) in enumerate(cells(source))]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=made, metadata={"kernelspec": kernel})


def execute(book):
    """Runs a notebook. What it prints and draws becomes part of it."""
    from nbclient import NotebookClient

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    client = NotebookClient(
        book,
        timeout=600,
        kernel_name="python3",
        extra_arguments=["--InteractiveShellApp.matplotlib=inline"],
    )
    client.execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # The times of day.
        if cell.cell_type == "code":
            # Progress bars and the log of TensorFlow are not part of a tutorial.
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            for output in cell.outputs:
                if "text" in output:
                    lines = output.text.splitlines(keepends=True)
                    kept = (line for line in lines if "INFO:tensorflow" not in line)
                    output.text = "".join(kept)
            cell.outputs = [o for o in cell.outputs if o.get("text") != ""]
    book.metadata.pop("language_info", None)


def main():
    """Writes the notebooks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [path.stem for path in TUTORIALS]
    parser.add_argument("names", nargs="*", help=", ".join(names))
    args = parser.parse_args()
    NOTEBOOKS.mkdir(exist_ok=True)
    for path in TUTORIALS:
        if args.names and path.stem not in args.names:
            continue
        book = notebook(path.read_text(encoding="utf-8"))
        execute(book)
        nbformat.write(book, NOTEBOOKS / f"{path.stem}.ipynb")
        print(f"Wrote {NOTEBOOKS / path.stem}.ipynb")


if __name__ == "__main__":
    main()
