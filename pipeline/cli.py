"""The command line: config first, then the stage, then an exit code; nobody sees a traceback for their own mistake.

Everything but the standard library is imported inside functions: a missing library then gets its sentence, --help
and a config error answer without torch, and the processes that a stage spawns start quickly.
"""

import atexit
import gc
import importlib
import json
import os
import select
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pipeline import __version__
from pipeline.errors import ExitCode, Interrupted, Superseded, UserError, explain

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from pipeline.work import Outcome

STAGES = {
    "plan": "measure a data set and propose a config for it",
    "prepare": "bring every case to the training grid",
    "train": "train a network on the prepared cases",
    "infer": "segment CTs with a trained network",
    "evaluate": "score predictions against labels",
    "folds": "score every fold's model on the cases that it has not seen",
    "doctor": "say what is wrong, and how to mend it",
    "status": "list the trainings in WORK [WORK ...], or in the folders below; WORK may be a config",
}
TOPICS = {
    "doctor": {
        "data": "read every case once and list what is wrong with it",
        "net": "say whether the network can learn, what it costs and which patches it takes",
        "run": "say what is wrong with the trainings in WORK [WORK ...], finished or running; WORK may be a config",
    }
}
OF_FOLDERS = (["doctor", "run"], ["status"])  # looks whose words are work folders, where others have a config
FLAGS = {
    "doctor": {"--verify": "also compare the prepared cases with their hashes"},
    "folds": {"--count": "only print how many folds there are"},
}
OPTIONS = """  --help          show this and every key
  --print-config  show the whole config that would run, as YAML
  --version       show the version"""
READER_LEFT = 128 + signal.SIGPIPE  # what a shell says of a program that ended for it, as most do
NOTHING_TO_CLEAR_UP = ("train",)  # until its loop begins, which notes signals and saves the state
INTERRUPTED = "interrupted; run the same command again to continue"
WITHOUT_RESTART = ", without train.restart=true, which would begin anew"
REQUEUES = "HOUNSFIELD_REQUEUES"  # set by what runs a command again that ended with 75: a run that was taken over must
TAKEN_OVER = 76  # not come back, as the two would end each other again and again
MISSING_LIBRARY = (
    "error: the library {name} is missing from {python}; use the project's own environment: `source scripts/env.sh`, "
    'then "$PY" in place of python.'
)


def entry() -> int:
    """Run `hounsfield STAGE ...`, the installed command; return the exit code."""
    words = sys.argv[1:]
    if words and words[0] in STAGES:
        return main(words[0], words[1:])
    if words == ["--version"]:
        print(f"hounsfield {__version__}")
        return ExitCode.DONE
    stages = "\n".join(f"  {name:<9} {about}" for name, about in STAGES.items())
    usage = f"usage: hounsfield STAGE [CONFIG.yaml] [key=value ...]\n\nstages:\n{stages}\n\noptions:\n{OPTIONS}"
    if words in (["--help"], ["-h"]):
        print(usage)
        return ExitCode.DONE
    found = f"{words[0]!r} is no stage" if words else "no stage is named"
    print(f"error: {found}; expected one of {', '.join(STAGES)}.\n{usage}", file=sys.stderr)
    return ExitCode.USER_ERROR


def main(stage: str, argv: list[str] | None = None) -> int:
    """Run one stage with the words after the command's name; return the exit code.

    What goes wrong is told on stderr. A stage's traceback goes to `<work>/log/<stage>.log`.
    """
    words = sys.argv[1:] if argv is None else argv
    # Read when torch is loaded. Threads that wait by spinning cost another program's share of a core twenty-fold.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    threading.excepthook = _heard_in_thread
    atexit.register(gc.freeze)  # as it ends Python would look through all that torch has made, half a second of work
    if "--version" in words:
        print(f"hounsfield {__version__}")
        return ExitCode.DONE
    try:
        _check_topic(stage, words)
        config, options = _config(stage, words), _options(stage, words)
        code = ExitCode.DONE if config is None else _run(stage, config, options, words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
        return READER_LEFT
    except (KeyboardInterrupt, Interrupted) as error:
        from pipeline.training.stop import leave_closed_outputs

        leave_closed_outputs()  # what read them may have been ended with this, as `tee` is by Ctrl-C
        if isinstance(error, Superseded):
            _tell(f"{error}.")
            return TAKEN_OVER if os.environ.get(REQUEUES) else ExitCode.INTERRUPTED
        _tell(INTERRUPTED + (WITHOUT_RESTART if "train.restart=true" in words else ""))
        return ExitCode.INTERRUPTED
    except UserError as error:
        _tell(f"error: {error}")
        if not words:
            print("no config was given: every key has its default; see --help", file=sys.stderr)
    except ModuleNotFoundError as error:
        print(MISSING_LIBRARY.format(name=error.name, python=sys.executable), file=sys.stderr)
    return ExitCode.USER_ERROR


def _heard_in_thread(arguments: "threading.ExceptHookArgs") -> None:
    """Keep quiet where the machine ended a library's thread, as a full disk does: who needs it will say so."""
    if arguments.exc_value is None or explain(arguments.exc_value) is None:
        threading.__excepthook__(arguments)


def _tell(sentence: str) -> None:
    """Print a sentence on stderr; where several processes train together, with which of them says it."""
    from pipeline.ranks import this_rank

    rank = this_rank()
    print(f"process {rank.number} of {rank.count}: {sentence}" if rank.count > 1 else sentence, file=sys.stderr)


def _check_topic(stage: str, words: list[str]) -> None:
    """Raise UserError where a look that has topics is not told which."""
    topics = TOPICS.get(stage, {})
    if topics and words[:1] not in [[topic] for topic in topics] and not {"--help", "-h"} & set(words):
        found = f"{words[0]!r}" if words else "nothing"
        call = f"python scripts/{stage}.py {next(iter(topics))} CONFIG.yaml"
        raise UserError(f"{stage}: found {found}, expected a topic first ({', '.join(topics)}), as in: {call}")


def _config(stage: str, words: list[str]) -> "Config | None":
    """Return the config to run with, or None where an option asked for something to be shown instead."""
    from pipeline.config.keys import help_text
    from pipeline.config.load import dump, load

    if "--help" in words or "-h" in words:
        print(f"{_usage(stage)}\n\nkey: what it is; what it may be [default]\n\n{help_text()}")
        return None
    flags = ["--print-config", *FLAGS.get(stage, {})]
    unknown = [word for word in words if word.startswith("-") and word not in flags]
    if unknown:
        known = ", ".join(["--help", *flags])
        raise UserError(f"{unknown[0]}: unknown option; expected key=value, {known} or --version.")
    settings = [word for word in words if word not in flags]
    topic, settings = (settings[:1], settings[1:]) if stage in TOPICS else ([], settings)
    places = [word for word in settings if "=" not in word]
    if [stage, *topic] in OF_FOLDERS and (len(places) > 1 or any(not os.path.isfile(place) for place in places)):
        settings = [f"work={json.dumps(str(_folders(settings)[0]))}"]
    config = load(settings)
    if "--print-config" in words:
        print(dump(config), end="")
        return None
    return config


def _folders(words: list[str]) -> "list[Path]":
    """Return the work folders that words name: each itself or, for a config file, as overrides say, its `work`."""
    from pipeline.config.load import load

    overrides = [word for word in words if "=" in word]
    places = [word for word in words if "=" not in word]
    if not places:
        return [load(overrides).work]
    return [load([place, *overrides]).work if os.path.isfile(place) else Path(place) for place in places]


def _options(stage: str, words: list[str]) -> "dict[str, str | bool | list[Path]]":
    """Return what a look is told beside the config: its topic, whether each of its flags is there, and folders."""
    options: dict[str, str | bool | list[Path]] = {
        flag.removeprefix("--"): flag in words for flag in FLAGS.get(stage, {})
    }
    topic, others = (words[:1], words[1:]) if stage in TOPICS else ([], words)
    if [stage, *topic] in OF_FOLDERS:
        options["folders"] = _folders([word for word in others if not word.startswith("-")])
    return {"topic": topic[0], **options} if topic else options


def _usage(stage: str) -> str:
    """Return how a stage is called, and its options."""
    topics = TOPICS.get(stage, {})
    place = "[FOLDER ...] or [CONFIG.yaml]" if [stage] in OF_FOLDERS else "[CONFIG.yaml]"
    call = " ".join([f"python scripts/{stage}.py", *(["TOPIC"] if topics else []), place, "[key=value ...]"])
    listed = [f"  {flag:<15} {about}" for flag, about in FLAGS.get(stage, {}).items()]
    parts = [f"usage: {call}", STAGES[stage], "\n".join([OPTIONS, *listed])]
    if topics:
        parts.insert(2, "topics:\n" + "\n".join(f"  {topic:<15} {about}" for topic, about in topics.items()))
    return "\n\n".join(parts)


def _run(stage: str, config: "Config", options: "dict[str, str | bool | list[Path]]", words: list[str]) -> int:
    """Run a stage with its log open; return the exit code.

    Raises UserError, also for what the machine refuses; Interrupted or KeyboardInterrupt; ModuleNotFoundError for a
    library that is not installed; and BrokenPipeError where nobody reads the output any more.
    """
    from pipeline import log
    from pipeline.ranks import this_rank
    from pipeline.work import WorkFolder

    file = WorkFolder(config.work).log(stage)
    try:
        log.start(file, this_rank().number)
        log.log.debug("command: %s %s", stage, shlex.join(words))
        with _on_request_to_end(_leave):
            module = importlib.import_module(f"pipeline.stages.{stage}")
            with _on_request_to_end(_leave if stage in NOTHING_TO_CLEAR_UP else signal.default_int_handler):
                outcome: Outcome | ExitCode = module.run(config, **options)
        if isinstance(outcome, ExitCode):
            return outcome
        _report(stage, outcome, config.data.exclude)
        return outcome.exit_code
    except Exception as error:
        log.log.debug("stopped by:", exc_info=True)
        if isinstance(error, UserError | Interrupted) or _is_missing_library(error) or _reader_left(error):
            raise
        sentence = explain(error)
        if sentence is not None:
            nowhere = isinstance(error, OSError) and not config.work.is_dir() and config.work in _at(error)
            raise UserError(f"work: {sentence}" if nowhere else sentence) from error
        # Shown as an internal error, and no fault of the user's.
        log.log.critical("%s: %s", type(error).__name__, error, exc_info=error)
        _tell_traceback(error, file)
        return ExitCode.INTERNAL_ERROR
    finally:
        log.stop()


@contextmanager
def _on_request_to_end(act: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handle Ctrl-C, SIGTERM and SIGUSR1, by which schedulers ask a job to end, and SIGHUP, which comes as a terminal
    or an ssh session ends; only a main thread can.
    """
    from pipeline.training.stop import heard, leave_closed_outputs

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_closed_outputs()
        act(number, frame)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in heard()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End at once, where there is nothing to clear up.

    An error raised here instead, as by Ctrl-C, may be dropped, or become another one in a library's C code.
    """
    with suppress(OSError):  # nobody listens
        os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(ExitCode.INTERRUPTED)


def _report(stage: str, outcome: "Outcome", excluded: Sequence[str]) -> None:
    """Log what became of the units, and how to go on where some failed; why was said when each did."""
    from pipeline.config.text import dump
    from pipeline.log import log

    made = f"{len(outcome.done)} made, {len(outcome.skipped)} already there, {len(outcome.failed)} failed"
    log.info("%s: %s", stage, made)
    if outcome.failed:
        own = [name for name in outcome.failed if name not in outcome.by_machine]
        override = shlex.quote(f"data.exclude={dump([*excluded, *own]).strip()}")
        cure = "mend what is named above and run the same command again"
        cure += f", or leave out what cannot be mended: {override}" if own else ""
        log.error("%d failed: %s\n%s", len(outcome.failed), ", ".join(outcome.failed), cure)


def _at(error: OSError) -> "list[Path]":
    """Return the file that an error is about, and the folders that it is in."""
    file = None if error.filename is None else Path(os.fsdecode(error.filename))
    return [] if file is None else [file, *file.parents]


def _is_missing_library(error: Exception) -> bool:
    return isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] != "pipeline"


def _reader_left(error: Exception) -> bool:
    """True where what read the output, such as `head`, has ended, and for that a print could not be written."""
    if not isinstance(error, BrokenPipeError):
        return False
    state = select.poll()
    state.register(sys.stdout, 0)  # an error is told without being asked for
    return bool(state.poll(0))


def _tell_traceback(error: Exception, file: Path) -> None:
    """Say where the traceback of an internal error is; show it where the log file, of the first process, has it not."""
    from pipeline.ranks import this_rank

    if file.is_file() and this_rank().number == 0:
        print(f"the traceback is in {file}; please report it with that file.", file=sys.stderr)
    else:
        traceback.print_exception(error)
