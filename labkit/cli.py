"""The command line of ./lab: arguments in, exit status out.

Status 0: all passed; 1: a check failed; 2: the command was wrong; 3: infrastructure, and nobody's points are touched.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from labkit import course
from labkit.brokers import InfrastructureError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
    help="The course on task queues. Without a command: the labs at a glance, your points, the next step.",
)

Number = Annotated[int, typer.Argument(metavar="N", help="The lab's number.")]
Brokers = Annotated[str, typer.Option(help="embedded, path (a server on the PATH), or a redis:// URL.")]


def run() -> None:
    """Run the command that was typed, and end the process with its status."""
    try:
        app(prog_name="./lab")
    except (course.NoSuchLab, InfrastructureError) as trouble:
        print(f"lab: {trouble}", file=sys.stderr)
        sys.exit(3 if isinstance(trouble, InfrastructureError) else 2)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone: nothing more to say, and no traceback about it
        sys.exit(1)


@app.callback(invoke_without_command=True)
def glance(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        from labkit.commands.glance import show

        show()


@app.command()
def check(
    number: Number,
    submission: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Grade this folder instead of labs/.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Grade again at each save.")] = False,
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Play one earlier failure again.")
    ] = None,
    repeat: Annotated[
        int, typer.Option(metavar="K", min=1, help="Grade K times, and count what differs.")
    ] = 1,
    under_load: Annotated[bool, typer.Option("--under-load", help="Keep every core busy meanwhile.")] = False,
    brokers: Brokers = "embedded",
    seed: Annotated[int, typer.Option(help="Decides all that is random in a run.")] = 0,
    results: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the result goes instead of .lab/.")
    ] = None,
) -> None:
    """Grade lab N and tell the story of what failed."""
    from labkit.commands import check as command

    request = command.Request(course.lab(number), submission, replay, brokers, seed, results)
    if watch:
        sys.exit(command.watch(request))
    if repeat > 1 or under_load:
        sys.exit(command.repeat(request, repeat, under_load=under_load))
    sys.exit(command.once(request))


@app.command()
def hint(number: Number) -> None:
    """Show the next hint of lab N, one at a time."""
    from labkit.commands.hint import show

    show(course.lab(number))


@app.command()
def reset(number: Number) -> None:
    """Put the original stub of lab N back; your version is kept under .lab/."""
    from labkit.commands.reset import reset as command

    command(course.lab(number))


@app.command()
def demo(
    number: Annotated[int, typer.Argument(metavar="[N]", help="The lab's number.")] = 3,
    photos: Annotated[Path | None, typer.Option(metavar="DIR", help="Your photographs (lab 3).")] = None,
    submission: Annotated[Path | None, typer.Option(metavar="DIR", help="Whose code is on stage.")] = None,
    brokers: Brokers = "embedded",
    plain: Annotated[bool, typer.Option("--plain", help="Print lines instead of the live view.")] = False,
) -> None:
    """The live demonstration of a lab (default: 3). It ends by itself."""
    from labkit.demo import play

    sys.exit(play(course.lab(number), photos, submission, brokers, plain=plain or None))


@app.command()
def broker(what: Annotated[str, typer.Argument(metavar="[up|down|status]")] = "status") -> None:
    """A Valkey of your own that stays up for terminals and notebooks; its data are kept."""
    from labkit.commands import broker as command

    sys.exit(command.run(what))


@app.command()
def notebook(number: Annotated[int, typer.Argument(metavar="[N]", help="The lab's number.")] = 3) -> None:
    """Open the notebook of lab N in JupyterLab, with the broker running."""
    from labkit.commands.notebook import open_lab

    sys.exit(open_lab(course.lab(number)))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context) -> None:
    """Run the project's own tests. What follows goes to pytest, such as -k brokers."""
    from labkit.commands.test import run as command

    sys.exit(command(context.args))


@app.command()
def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART]...", help="start, worker, idle, grading (default: all)."),
    ] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds: a look, not a measurement.")] = False,
) -> None:
    """Measure the figures that the course quotes, as ratios in one run."""
    from labkit.commands.bench import run as command

    sys.exit(command(parts or [], quick=quick))
