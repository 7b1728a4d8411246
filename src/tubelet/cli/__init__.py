"""One file per verb; nothing heavy is imported before its verb runs."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from typing import NoReturn

import click

from tubelet import __version__
from tubelet.errors import TubeletError, UsageError, WeightsError, did_you_mean
from tubelet.machine.process import configure_process

BEFORE = (UsageError, WeightsError)
"""What is found before any input is tried."""

VERBS = {
    "models": "what can be run, and where its weights are",
    "extract": "videos -> features",
    "plan": "what extract would do: windows, rows, sizes; decodes no pixels",
    "classify": "class names of videos",
    "flow": "optical flow of videos, as arrays or as a colour video",
    "map": "seconds of a video -> rows of its features, and back",
    "align": "annotation files with feature rows added",
    "search": "the moments of an output folder that are most alike one, or another video",
    "report": "one HTML page about an output folder: what the model saw, and what its rows say",
    "serve": "browse and search an output folder in a local web page",
    "verify": "checksums, shapes, numbers, and rows against the plan",
    "compare": "two feature sets row by row",
    "pack": "features as the files that other tools read",
    "merge": "join output folders of one recipe",
    "presets": "published conventions of cutting and storing, with their sources",
    "status": "how far the runs on an output folder are, from another terminal",
    "convert": "a checkpoint of any known layout as safetensors",
    "show": "a video's streams and timing, or a feature file's rows and provenance",
    "train": "train or fine-tune as a recipe says",
    "evaluate": "accuracy of a model on labelled videos",
    "check": "whether this installation computes the reference's numbers",
    "bench": "what this machine can do, what networks make of it, and what to run",
    "probe": "how well stored features tell labels",
}


class LazyGroup(click.Group):
    """Verbs by name; `tubelet <verb>` imports `tubelet.cli.<verb>` and runs its `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        return importlib.import_module(f"tubelet.cli.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise click.UsageError(f"no verb {args[0]!r}{did_you_mean(args[0], VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tubelet")
def group() -> None:
    """Video features that can be trusted.

    tubelet extract videos/ -o features/        one .npy and one .json per video
    """


def main() -> None:
    """The console script. Exit codes: 0 done, 1 an input failed, 2 wrong usage, 130 interrupted."""
    configure_process()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="surrogateescape")
    debug = "--debug" in sys.argv
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = group.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        fail("interrupted; finished files are kept, run the same command to go on", 130)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        fail(f"{error.format_message()}{hint}", 2)
    except TubeletError as error:
        if debug:
            raise
        fail(str(error), 2 if isinstance(error, BEFORE) else 1)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error of this run.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _terminate(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def fail(message: str, code: int) -> NoReturn:
    """One line on stderr, and the exit code."""
    click.echo(f"tubelet: {message}", err=True)
    sys.exit(code)
