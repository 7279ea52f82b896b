"""The command line of ./lab: arguments in, exit status out.

Status 0: all passed; 1: a check failed; 2: the command was wrong; 3: infrastructure, and nobody's points are touched.
"""

import os
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

LEVELS = ("none", "process", "bubblewrap", "require-bubblewrap")  # of isolation

Number = Annotated[int, typer.Argument(metavar="N", help="The lab's number.")]
Brokers = Annotated[
    str,
    typer.Option(
        metavar="WHICH",
        help="embedded; docker or docker-redis (containers, gone afterward); path (a server on the PATH); "
        "or a URL: redis://, or amqp:// for lab 6.",
    ),
]

Isolation = Annotated[
    str,
    typer.Option(
        metavar="LEVEL",
        help="What a submission is kept from: none, process, bubblewrap (where it is installed) or "
        "require-bubblewrap. The README says what each level holds off.",
    ),
]

NoInstall = Annotated[
    bool, typer.Option("--no-install", help="Do not install RabbitMQ where it is missing (lab 6).")
]


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
        int, typer.Option(metavar="K", min=1, help="Grade K times, and count what did not pass.")
    ] = 1,
    under_load: Annotated[bool, typer.Option("--under-load", help="Keep every core busy meanwhile.")] = False,
    brokers: Brokers = "embedded",
    no_install: NoInstall = False,
    seed: Annotated[int, typer.Option(help="Decides all that is random in a run.")] = 0,
    results: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the result goes instead of .lab/.")
    ] = None,
    isolation: Isolation = "none",
) -> None:
    """Grade lab N and tell the story of what failed."""
    from labkit.commands import check as command

    _forbid_installing(no_install)
    _expect_level(isolation)
    request = command.Request(
        course.lab(number), submission, replay, brokers, seed, results, isolation=isolation
    )
    if watch:
        sys.exit(command.watch(request))
    if repeat > 1 or under_load:
        sys.exit(command.repeat(request, repeat, under_load=under_load))
    sys.exit(command.once(request))


@app.command()
def grade(
    submissions: Annotated[
        list[str] | None,
        typer.Argument(metavar="SUBMISSION…", help="Folders, zips, tars, or git URLs, as URL@COMMIT."),
    ] = None,
    lab: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Grade this lab; may be repeated. Default: all that are there."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", metavar="FORMAT", help="Also report in this format; may be repeated, or a,b,c."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the grades go. Default: .lab/grades.")
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="K", min=1, help="So many submissions at a time.")] = 1,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=1, help="Seconds for one lab of a submission.")
    ] = 300,
    brokers: Brokers = "embedded",
    isolation: Isolation = "bubblewrap",
    explain: Annotated[bool, typer.Option("--explain", help="Tell the story of each lost point.")] = False,
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Play one failure of the submission again.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Grade again what is graded already.")] = False,
    celery: Annotated[
        str, typer.Option(metavar="URL", help="Have workers on other machines grade, over this broker.")
    ] = "",
    celery_worker: Annotated[
        str, typer.Option(metavar="URL", help="Be such a worker, until Ctrl-C; needs no SUBMISSION.")
    ] = "",
    no_install: NoInstall = False,
) -> None:
    """Grade what others handed in, safely, and write reports and a gradebook."""
    _forbid_installing(no_install)
    _expect_level(isolation)
    if celery_worker:
        from labkit.grade import on_celery

        sys.exit(on_celery.work(celery_worker, jobs))
    if not submissions:
        raise typer.BadParameter(
            "name at least one: a folder, an archive, or a git URL", param_hint="SUBMISSION"
        )
    from labkit.commands import grade as command
    from labkit.grade.one import Request

    request = Request(tuple(map(course.lab, lab or ())), brokers, isolation, timeout)
    if replay:
        sys.exit(command.replay(submissions[0], replay, request))
    wanted = [name for given in formats or ["native"] for name in given.split(",") if name]
    target = out or command.default_out()
    sys.exit(command.run(command.Order(submissions, request, target, wanted, jobs, explain, fresh, celery)))


@app.command()
def package(
    kind: Annotated[str, typer.Argument(metavar="student|gradescope|classroom50", help="For whom.")],
    lab: Annotated[
        list[int] | None, typer.Option(metavar="N", help="The lab that it grades; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.zip|DIR", help="Where it goes. Default: this folder.")
    ] = None,
) -> None:
    """Make what an instructor hands out (student), or uploads (gradescope, classroom50)."""
    from labkit.commands import package as command

    sys.exit(command.run(kind, list(map(course.lab, lab or ())), out))


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
    photos: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Your photographs (labs 3 and 6).")
    ] = None,
    submission: Annotated[Path | None, typer.Option(metavar="DIR", help="Whose code is on stage.")] = None,
    solution: Annotated[
        bool, typer.Option("--solution", help="The solution's code: the default where solutions/ is there.")
    ] = False,
    brokers: Brokers = "embedded",
    plain: Annotated[bool, typer.Option("--plain", help="Print lines instead of the live view.")] = False,
    single: Annotated[bool, typer.Option("--single", help="All in one terminal.")] = False,
    tmux: Annotated[bool, typer.Option("--tmux", help="Several terminals, in tmux.")] = False,
    auto: Annotated[bool, typer.Option("--auto", help="Go on by itself, and not with Enter.")] = False,
    steps: Annotated[bool, typer.Option("--steps", help="Only list the steps, with their numbers.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only try what a class needs of this machine.")
    ] = False,
    speed: Annotated[
        float | None,
        typer.Option(metavar="X", min=0.25, max=100, help="2: twice as fast; 0.5: half as fast."),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE.cast", help="Record it, as asciinema does.")
    ] = None,
) -> None:
    """The live demonstration of a lab (default: 3)."""
    if check:
        from labkit.demo.before_class import check as look

        sys.exit(look(brokers))
    if steps:
        from labkit.demo.outline import outline

        sys.exit(print("\n".join(outline(course.lab(number)))))
    from labkit.demo import Request, play, stages

    if solution:
        if submission is not None:
            raise typer.BadParameter("say either this or --submission", param_hint="--solution")
        submission = course.lab(number).solution
    stage = stages.PLAIN if plain else stages.SINGLE if single else stages.TMUX if tmux else ""
    sys.exit(
        play(Request(course.lab(number), photos, submission, brokers, stage, auto, speed, record=record))
    )


@app.command()
def broker(
    what: Annotated[str, typer.Argument(metavar="[up|down|status]")] = "status",
    which: Annotated[
        str, typer.Argument(metavar="[N]", help="The lab that it is for; or valkey, or rabbitmq.")
    ] = "valkey",
) -> None:
    """A broker of your own that stays up for terminals and notebooks: Valkey, or lab N's; its data are kept."""
    from labkit.commands import broker as command

    sys.exit(command.run(what, which))


@app.command()
def notebook(number: Annotated[int, typer.Argument(metavar="[N]", help="The lab's number.")] = 3) -> None:
    """Open the notebook of lab N in JupyterLab, with the broker running."""
    from labkit.commands.notebook import open_lab

    sys.exit(open_lab(course.lab(number)))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context, brokers: Brokers = "embedded", no_install: NoInstall = False) -> None:
    """Run the project's own tests. What follows goes to pytest, such as -k brokers."""
    from labkit.commands.test import run as command

    _forbid_installing(no_install)
    sys.exit(command(context.args, brokers))


@app.command()
def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART]...", help="start, worker, idle, grading, class (default: all)."),
    ] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds: a look, not a measurement.")] = False,
) -> None:
    """Measure the figures that the course quotes, as ratios in one run."""
    from labkit.commands.bench import run as command

    sys.exit(command(parts or [], quick=quick))


def _forbid_installing(forbidden: bool) -> None:
    """For this command, and for all that it starts."""
    if forbidden:
        os.environ["LAB_NO_INSTALL"] = "1"


def _expect_level(isolation: str) -> None:
    if isolation not in LEVELS:
        raise typer.BadParameter(f"{isolation} is none of {', '.join(LEVELS)}", param_hint="--isolation")
