"""Say what is wrong with a data set and its store."""

import logging
import shlex
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple
from functools import partial

from pipeline.config.config import Config
from pipeline.config.text import dump
from pipeline.dataset.cases import Case
from pipeline.errors import ExitCode, Interrupted, UserError
from pipeline.health.examination import Examination, examine
from pipeline.health.judge import judge
from pipeline.health.problem import SEVERITIES, Line, Problem, error, fold, warning
from pipeline.labels import Labels
from pipeline.log import log, overhear, progress, prose_table
from pipeline.processes import Failure, each, workers_of
from pipeline.stages.data import cases_of, labels_of, store_of
from pipeline.stages.prepare import tell_disagreement
from pipeline.store.catalogue import Catalogue
from pipeline.store.verify import verify as verify_store

COLUMNS = ("case", "problem", "found", "cure")
NOT_READ = "not read"  # for reasons that lie in the machine: leaving the case out would cure nothing


def run(config: Config, verify: bool = False) -> ExitCode:
    """Print what is wrong with the data set, with `verify` also with the store; SOME_FAILED where there is an error.

    Every case that data.exclude does not leave out is read once, test cases too. Without data.source only the store
    is looked at. Raises UserError where the data set, or the store, as a whole cannot be used.
    """
    if config.data.source is None and not verify:
        raise UserError("data.source: not set; give the data set, or --verify to check only a store.")
    store = store_of(config)
    if verify:
        Catalogue.read(store)  # a store that is not there is told before hours of reading, and not after them
    started_s = time.monotonic()
    problems: list[Problem] = []
    done: list[str] = []
    if config.data.source is not None:
        labels, cases, problems = find_data(config)
        problems += examine_data(cases, labels, config)
        done.append(f"{len(cases)} cases read")
    if verify:
        cure = "do what the sentence says: prepare makes this case again, and no other"
        problems += [error("", "store", sentence, cure) for sentence in verify_store(store)]
        done.append(f"{store} verified")
    lines = report(problems, config.data.exclude)
    log.info("%s in %.0f s: %s", " and ".join(done), time.monotonic() - started_s, counted(lines))
    return ExitCode.SOME_FAILED if any(line.severity == "error" for line in lines) else ExitCode.DONE


def find_data(config: Config) -> tuple[Labels, list[Case], list[Problem]]:
    """Return classes and cases, and what looking for them warned of."""
    with overhear() as heard:
        labels, cases = labels_of(config), cases_of(config)
        tell_disagreement(config, labels)
    told = [sentence for level, sentence in heard.take() if level >= logging.WARNING]
    return labels, cases, [warning("", "data set", sentence, "make sure that this is meant") for sentence in told]


def examine_data(cases: Sequence[Case], labels: Labels, config: Config) -> list[Problem]:
    """Read every case, and return what is wrong with each of them and with all of them together."""
    look = partial(examine, labels=labels, overlap=config.data.overlap, spacing_mm=config.prepare.spacing_mm)
    workers = workers_of(config.prepare.workers)
    found: dict[str, Examination | Failure] = {}
    try:
        with closing(each(look, cases, workers=workers)) as looked, progress(len(cases), "doctor") as advance:
            for case, result in looked:
                found[case.name] = result
                advance(case.name)
    except KeyboardInterrupt as interrupt:
        raise Interrupted from interrupt
    results = [(case, found[case.name]) for case in cases]  # not in the order of finishing
    problems = [refusal(case, result) for case, result in results if isinstance(result, Failure)]
    examinations = [result for _, result in results if isinstance(result, Examination)]
    return problems + judge(examinations, cases, labels, config.data.folds)


def refusal(case: Case, failure: Failure) -> Problem:
    """Return the problem of a case that gave no facts."""
    if failure.by_machine:
        return error(case.name, NOT_READ, failure.sentence, "run the same command again")
    return error(case.name, "cannot be used", failure.sentence, "do what the sentence says, or leave the case out")


def report(problems: Sequence[Problem], excluded: Sequence[str]) -> list[Line]:
    """Print problems as tables, errors first, say how to leave out the cases with errors, and return the lines."""
    for problem in problems:
        log.debug("%s: %s: %s: %s; %s", *astuple(problem))
    lines = fold(problems)
    for severity in SEVERITIES:
        rows = [line.cells() for line in lines if line.severity == severity]
        if rows:
            prose_table(f"{severity}s", COLUMNS, rows)
    failed = [problem for problem in problems if problem.severity == "error" and problem.what != NOT_READ]
    unfit = sorted({problem.case for problem in failed if problem.case})
    if unfit:
        override = shlex.quote(f"data.exclude={dump([*excluded, *unfit]).strip()}")
        log.info("to leave out the cases with errors: %s", override)
    return lines


def counted(lines: Sequence[Line]) -> str:
    """Return how many lines there are of each severity, in words."""
    counts = {severity: sum(line.severity == severity for line in lines) for severity in SEVERITIES}
    told = [f"{count} {severity}{'s' if count > 1 else ''}" for severity, count in counts.items() if count]
    return ", ".join(told) or "nothing is wrong"
