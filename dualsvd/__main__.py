"""The command line: parses arguments, calls what does the work, prints what it returns.

Exit status: 0 all is well, 1 some ways to a derivative disagree, 2 the input or the command is bad, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .errors import DualSVDError, in_one_line

DESCRIPTION = """\
Derivatives through the singular value decomposition, in forward and reverse mode, and the proof that they agree.
Without a command: the whole story on a built-in matrix."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"dualsvd: {message}; see {self.prog} --help\n")


def size(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text}")
    return int(text)


def function(text: str) -> str:
    """The name of a function that has a Jacobian here."""
    from . import commands

    if text not in commands.FUNCTIONS:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(commands.FUNCTIONS)}; got {text}")
    return text


#: what options that may stand before or behind a command are where they are not given
WITHOUT: dict[str, Any] = {"json": False, "plot": None, "order": 1}


def parser() -> Parser:
    """The commands and their arguments."""
    shared = Parser(add_help=False)
    shared.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON instead of text")
    plot = Parser(add_help=False)
    plot.add_argument(
        "--plot", type=Path, metavar="FILE.png", default=argparse.SUPPRESS, help="draw a picture into this file"
    )
    order = Parser(add_help=False)
    order.add_argument(
        "--order", type=int, choices=(1, 2), default=argparse.SUPPRESS, help="2: compare second derivatives as well"
    )
    top = Parser(
        prog="dualsvd",
        description=DESCRIPTION,
        parents=[shared, plot, order],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.set_defaults(run=story, refused=(), parser=top)
    commands, options = top.add_subparsers(metavar="COMMAND"), {"plot": plot, "order": order}

    def command(name: str, run: Callable[..., int], text: str, *parents: Parser) -> Any:
        added = commands.add_parser(name, help=text, description=text, parents=[shared, *parents])
        refused = [option for option, by in options.items() if by not in parents]
        added.set_defaults(run=run, refused=refused, parser=added)
        return added

    check = command("check", check_files, "compare all ways to the derivatives at the matrices of files", plot, order)
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".npy, .npz, .csv or .mtx")
    check.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: kernels of both modes as well")
    inspect = command("diagnose", diagnose, "clusters, gaps, rank, and how well each derivative is determined", plot)
    inspect.add_argument("file", type=Path, metavar="FILE", help=".npy, .npz, .csv or .mtx")
    whole = command("jacobian", write_jacobian, "the Jacobian of a function of a matrix, into a .npy file")
    whole.add_argument("file", type=Path, metavar="FILE", help=".npy, .npz, .csv or .mtx, holding one matrix")
    whole.add_argument(
        "--of",
        type=function,
        default="svdvals",
        metavar="NAME",
        help="svdvals (the default), opnorm, nuclear_norm, cond, pinv, polar",
    )
    whole.add_argument("--out", type=Path, required=True, metavar="J.npy", help="the file to write")
    whole.add_argument("--mode", choices=("auto", "forward", "reverse"), default="auto")
    speed = command("bench", measure, "measure speed beside the other libraries that are installed", plot)
    speed.add_argument("--largest", type=size, default=64, metavar="N", help="largest size of matrix (64)")
    speed.add_argument("--all-threads", action="store_true", help="use all cores, not one")
    command("info", show_information, "versions, the machine, and which optional packages are installed")
    command("warmup", warm_up, "compile all kernels now, in parallel, so that no first call has to wait")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    open_outputs()
    # set_defaults would give these to the commands too, and there they would overwrite what stands before the command
    given, unknown = parser().parse_known_args(arguments, argparse.Namespace(**WITHOUT))
    if unknown:
        given.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    for option in given.refused:
        if getattr(given, option) != WITHOUT[option]:
            given.parser.error(f"--{option} is not for this command")
    try:
        if given.plot:
            from . import plots

            plots.check_target(given.plot)
        return int(given.run(given))
    except DualSVDError as error:
        print(f"dualsvd: {in_one_line(error)}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"dualsvd: not enough memory: {in_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output has gone, as `head` does
        write_no_more()
        return 0
    except OSError as error:  # the disk is full, say
        write_no_more()
        print(f"dualsvd: the output could not be written: {error}", file=sys.stderr)
        return 2


def open_outputs() -> None:
    """Let nothing that is printed fail: not where an output was closed, nor for a name that its encoding lacks."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started us, as by 2>&-
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        output = getattr(sys, name)
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")


def write_no_more() -> None:
    """Let what is still to be written go nowhere, so that Python does not complain as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# ---------------------------------------------------------------------------------------------------------------------
# Commands


def story(given: argparse.Namespace) -> int:
    """Without a command: the story of the built-in matrix."""
    from . import commands

    return tell_all(given, [commands.BUILT_IN])


def check_files(given: argparse.Namespace) -> int:
    """`check`: the story of every matrix in the files."""
    from . import files

    return tell_all(given, [matrix for path in given.files for matrix in files.read(path)])


def tell_all(given: argparse.Namespace, matrices: Sequence[Any]) -> int:
    """The story of each matrix; 0 only if all agree."""
    from . import commands

    stories = []
    for matrix in matrices:
        with progress(matrix.name, commands.SUBJECTS) as tick:
            stories.append(
                commands.tell(matrix, order=given.order, device=getattr(given, "device", "cpu"), progress=tick)
            )
        if not given.json:
            print(stories[-1], end="\n\n" if len(stories) < len(matrices) else "\n", flush=True)
    passed = all(s.passed for s in stories)
    if given.json:
        print_json({"passed": passed, "matrices": [s.to_dict() for s in stories]})
    if given.plot:
        from . import plots

        plots.draw_stories(stories, given.plot)
    return 0 if passed else 1


def diagnose(given: argparse.Namespace) -> int:
    """`diagnose`: a report on each spectrum in the file."""
    from . import commands, files

    matrices = files.read(given.file)
    reports = [commands.diagnose(matrix) for matrix in matrices]
    if given.json:
        print_json({matrix.name: report for matrix, (_, report) in zip(matrices, reports)})
    else:
        print("\n\n".join(f"{matrix.name}\n{text}" for matrix, (text, _) in zip(matrices, reports)))
    if given.plot:
        from . import plots

        plots.draw_spectra(matrices, given.plot)
    return 0


def write_jacobian(given: argparse.Namespace) -> int:
    """`jacobian`: one Jacobian into a file."""
    from . import commands, files

    matrix = files.read_one(given.file)
    shape = commands.write_jacobian(matrix, given.of, given.out, mode=given.mode, progress=sys.stderr.isatty())
    if given.json:
        print_json({"file": str(given.out), "of": given.of, "shape": list(shape)})
    else:
        print(f"{given.out}: Jacobian of {given.of} at {matrix.name}, shape {shape}")
    return 0


def measure(given: argparse.Namespace) -> int:
    """`bench`: lines as they are measured; with --json the report on stdout and the lines on stderr."""
    from . import bench

    show = (lambda line: print(line, file=sys.stderr)) if given.json else (lambda line: print(line, flush=True))
    report = bench.measure(largest=given.largest, single=not given.all_threads, progress=show)
    if given.json:
        print(report.to_json())
    if given.plot:
        from . import plots

        plots.draw_bench(report, given.plot)
    return 0


def show_information(given: argparse.Namespace) -> int:
    """`info`: a table of names and values."""
    from . import commands

    facts = commands.information()
    if given.json:
        print_json(facts)
    else:
        width = max(map(len, facts))
        print("\n".join(f"{name:{width}}  {value}" for name, value in facts.items()))
    return 0


def warm_up(given: argparse.Namespace) -> int:
    """`warmup`: the seconds of each kernel, as it is compiled."""
    from . import commands

    seconds = {}
    with progress("kernels", len(commands.KERNELS)) as tick:
        for name, took in commands.warm_up():
            tick(name)
            seconds[name] = round(took, 2)
            if not given.json:
                print(f"{took:6.1f} s  {name}", flush=True)
    if given.json:
        print_json(seconds)
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Printing


def print_json(document: Any) -> None:
    """One JSON document on stdout. JSON has no NaN: what is not finite must have been replaced."""
    print(json.dumps(document, indent=1, allow_nan=False))


@contextlib.contextmanager
def progress(what: str, steps: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on a terminal, where tqdm is installed; nothing elsewhere."""
    bar = None
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from tqdm import tqdm

            bar = tqdm(total=steps, desc=what, leave=False)

    def tick(step: str) -> None:
        if bar is not None:
            bar.set_postfix_str(step)
            bar.update()

    try:
        yield tick
    finally:
        if bar is not None:
            bar.close()


if __name__ == "__main__":
    sys.exit(main())
