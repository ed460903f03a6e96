"""python -m jobs JOB [RECIPE | file.yaml] [knob=value ...]: one short file per job, one function call per command."""

import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile

if __name__ == "__main__":  # Ctrl-C while the rest is imported: nothing is under way, and a traceback would tell nobody anything
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from engine.config import Config
from engine.knobs import amend, flat
from engine.models import Section
from jobs import matrix, places, quiet
from jobs.documents import NAMED, from_file, section
from jobs.recipes import RECIPES
from jobs.troubles import BUGS, CommandError, mendable, said

JOBS = {
    "demo": "simulated video through the whole chain, with a report at the end",
    "ingest": "video in, scored patches into the store; what the ledger has is skipped",
    "watch": "the same for as long as it runs: takes in what arrives, waits for what is away, sets aside what cannot be taken in",
    "requeue": "let quarantined video be tried again: requeue store.uri=... VIDEO_ID, or all",
    "alike": "mark the patches that look like one stored before them, by the clusters that a choice made",
    "rescore": "score the patches that came in with another scorer by that of now, and change to it once all are scored",
    "selections": "choose anew what watch.selections says, where the patches changed",
    "drift": "hold the video of every source and day beside all before: distances, alarms with a reason",
    "worth": "what the selection of now is estimated to be ahead of the one that the newest model was trained on",
    "plan": "measure each stage on a sample of the video: pool sizes, frames/s, the bottleneck, hours and cost of plan.hours of video",
    "probe": "train the scorer on a random sample of the video",
    "score": "scores or embeddings of the stored patches by another model, score.by, beside those they came in with",
    "choose": "select patches within the budget and compose the training images",
    "export": "the training images of a selection as a folder of pictures or as WebDataset shards, for other trainers",
    "pretrain": "train a masked autoencoder or SimCLR on the chosen images, under Ray Train",
    "evaluate": "fine-tune on a folder of images/ and masks/, and measure mIoU, Dice and NormDEL",
    "transfer": "fine-tune the models that a pre-training kept: TIS and regret of every score and rule of when to stop",
    "transfer-study": "what rules of when to stop pre-training are worth on the released scores of arXiv 2410.18677: study.uri=...",
    "benchmark": "a matrix of methods, budgets, data sets, seeds and architectures: benchmark small, benchmark paper, or a YAML file",
    "theory": "what pruning should do by the theory of the perceptron, beside simulation; the report draws it",
    "datasets": "the data sets by name with their published counts; with evaluate.uri or videos.uri what of one lies there",
    "submit": "run a job on the cluster of RAY_ADDRESS, once, and follow it: submit [--again] [--kubernetes[=apply]] JOB ...",
    "query": 'SQL over the tables: query store.uri=... "SELECT ..."',
    "nearest": "the lookup.k patches that look most like one: nearest store.uri=... PATCH_ID",
    "hardest": "the lookup.k patches that are hardest for the scorer",
    "explain": "why something that has an id is there or not, from what, and what used it: explain store.uri=... ID",
    "browse": "a local web page to look into a store: browse STORE, and with --write tags and selections can be made",
    "history": "what every version of the patch table came from",
    "maintain": "migrate, merge small files, index, clean up; safe beside an ingest",
    "forget": "erase a video, all that was made from it and every byte of both: forget store.uri=... VIDEO_ID",
    "report": "one HTML file of what the store and its runs hold",
}
SUBJECTS = {  # jobs that are asked about something, and what
    "forget": "the id of one video, or the beginning of one in 8 letters or more, as in: forget store.uri=store 3f2a9c41",
    "requeue": "the id of one quarantined video, or the beginning of one, or all, as in: requeue store.uri=store all",
    "benchmark": f"one matrix: {', '.join(matrix.PROTOCOLS)}, or a YAML file with a section matrix",
    "query": 'one SQL sentence in quotes, as in: query store.uri=store "SELECT count(*) FROM patches"',
    "nearest": "the id of one patch, as in: nearest store.uri=store lookup.k=5 PATCH_ID",
    "explain": "one id of a patch, frame (video@milliseconds), image, selection, video, model, scorer, source of drift, cell or run, "
    "or the beginning of one",
}
SUBMITTED = ("--again", "--kubernetes", "--kubernetes=apply")
KNOB = re.compile(r"[a-z_]+(\.[a-z_]+)*=")
GONE = re.compile(r".*Not found: \S*?([^/\s]+)\.lance/([^\s,]+).*")  # what Lance says of a file that it was promised
USAGE = "usage: python -m jobs JOB [RECIPE | file.yaml] [knob=value ...]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; 0 when it is done, 1 when it failed on what it met, 2 when the command itself is wrong."""
    if __name__ == "__main__":
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = command(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who reads the answer has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def command(words: list[str]) -> int:
    """Do what was typed; the exit status: 2 where it cannot be done as typed, which is said in one sentence."""
    if not words or words[0] in ("-h", "--help") or {"-h", "--help"} & set(words[1:]):
        print(help_text())
        return 0 if words else 2
    try:
        job, config, rest = parse(words)
        places.check(job, config)
    except (ValueError, OSError) as error:
        if wants_json(words):
            quiet.begin("json")
        quiet.complain(f"endocurate: {error}")
        return 2
    return start(job, config, rest)


def wants_json(words: Sequence[str]) -> bool:
    """Whether what a command says is to be JSON, as far as a command that is refused tells."""
    job, *rest = words
    told = [word for word in rest if word.startswith("watch.log=")]
    if job == "watch" and not told and rest and is_recipe(rest[0]) and rest[0] not in RECIPES:
        with suppress(ValueError, OSError):
            return from_file(rest[0]).watch.log == "json"
    return job == "watch" and told[-1:] == ["watch.log=json"]


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process in here as if it had not begun: an import that is broken off raises anything."""
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def start(job: str, config: Config, rest: list[str]) -> int:
    """Run a job; the exit status. What a person can mend is said in one sentence, a bug is raised."""
    quiet.begin(config.watch.log if job == "watch" else "text")
    with ends_at_once():
        work = importlib.import_module(f"jobs.{job.replace('-', '_')}")
    try:
        return int(work.run(config, *rest) or 0)
    except MemoryError as error:
        quiet.complain(f"endocurate {job}: out of memory; lower the batch or what is done at a time ({sentence(error)})")
        return 1
    except (*BUGS, BrokenPipeError):
        raise  # not something a person can mend; or nobody is left to tell
    except mendable(FloatingPointError) as error:  # a training met numbers that are none
        quiet.complain(f"endocurate {job}: {sentence(error)}")
        return 2 if isinstance(error, CommandError) else 1
    except KeyboardInterrupt as error:  # with a sentence where something runs on elsewhere
        stays = error if error.args else "what was committed stays, the same command goes on from there"
        quiet.complain(f"endocurate {job}: interrupted; {stays}")
        return 130


def sentence(error: BaseException) -> str:
    """What an error says in one line, of a file that Lance misses what to do, and without the SQL of MLflow's database."""
    told = GONE.sub(r"the table \1 lacks its file \2: put it back from a copy; the job maintain tells what else is missing", said(error))
    return re.sub(r".*\(\w+\.\w+\) (.*?) \[SQL.*", r"the database of MLflow: \1", told)


def parse(words: list[str]) -> tuple[str, Config, list[str]]:
    """The job, its configuration, and the words that are neither recipe nor knob: what the job is asked about.

    ValueError, one sentence, for a wrong word.
    """
    job, *rest = words
    rest = spelled_out(rest) if job == "browse" else rest
    if job not in JOBS:
        raise ValueError(f"there is no job {job!r}; the jobs are {', '.join(JOBS)}")
    if job == "submit":
        return job, parse(asked_of_submit(rest))[1], rest
    config, asked = matrix_and_knobs(rest) if job == "benchmark" else recipe_and_knobs(job, rest)
    return job, config, asked


def spelled_out(words: Sequence[str]) -> list[str]:
    """The knobs that the words of `browse STORE --write` are short for; recipes and knobs stay."""
    if "--write" in words:
        words = [*(word for word in words if word != "--write"), "browse.write=true"]
    return [word if KNOB.match(word) or is_recipe(word) or word.startswith("-") else f"store.uri={word}" for word in words]


def asked_of_submit(words: list[str]) -> list[str]:
    """The command that is to be submitted; ValueError for none, for what is no word of `submit`, and for a job of this machine.

    Behind the job all words but its own are the job's: SQL may begin with a dash.
    """
    options = list(takewhile(lambda word: word.startswith("-"), words))
    command = [word for word in words[len(options) :] if word not in SUBMITTED]
    if strange := [word for word in options if word not in SUBMITTED]:
        raise ValueError(f"submit knows no {strange[0]}; expected {', '.join(SUBMITTED)} or nothing before the job")
    if not command or command[0] in ("submit", "demo", "browse"):
        raise ValueError("submit takes a job that runs on a cluster, as in: submit ingest cluster videos.uri=s3://... store.uri=s3://...")
    return command


def recipe_and_knobs(job: str, rest: list[str]) -> tuple[Config, list[str]]:
    """The configuration of every other job, and what it is asked about. ValueError, one sentence, for a wrong one."""
    config = Config() if job not in (*SUBJECTS, "demo", "report") else RECIPES["tiny"]()
    if job == "demo" and rest and "=" not in rest[0] and rest[0] != "tiny":
        raise ValueError(f"demo runs the recipe tiny, not {rest[0]!r}; knob=value changes it")
    if rest and is_recipe(rest[0]):
        config = RECIPES[rest[0]]() if rest[0] in RECIPES else from_file(rest[0])
        rest = rest[1:]
    refuse_stray(job, rest)
    asked = [word for word in rest if not KNOB.match(word)] if job in SUBJECTS else []
    if job in SUBJECTS and len(asked) != 1:
        raise ValueError(f"{job} takes {SUBJECTS[job]}")
    knobs = [word for word in rest if word not in asked]
    whole = [word for word in knobs if word.partition("=")[0] in NAMED]
    for word in whole:
        part, _, name = word.partition("=")
        config = config.model_copy(update={part: section(part, name, getattr(config, part))})
    return amend(config, [word for word in knobs if word not in whole]), asked


def refuse_stray(job: str, rest: Sequence[str]) -> None:
    """ValueError for a word that is neither a knob nor what the job is asked about."""
    for word in rest:
        if is_recipe(word):
            raise ValueError(f"{word}: a recipe stands right after the job, and there is one at most, as in: {job} {word} knob=value")
        if job not in SUBJECTS and "=" not in word:
            raise ValueError(
                f"{word!r} is no recipe ({', '.join(RECIPES)}), no .yaml file and no knob=value of the {len(flat(Config()))} knobs"
            )


def is_recipe(word: str) -> bool:
    """Whether a word names a recipe or a YAML file of one."""
    return word in RECIPES or (word.endswith((".yaml", ".yml")) and "=" not in word)


def matrix_and_knobs(words: list[str]) -> tuple[Config, list[str]]:
    """What all cells of a matrix share, and the words that it was asked by: its name or file, and the knobs. ValueError with the place."""
    knobs = [word for word in words if KNOB.match(word)]
    asked = [word for word in words if word not in knobs]
    if len(asked) != 1:
        raise ValueError(f"benchmark takes {SUBJECTS['benchmark']}")
    config, made = matrix.read(asked[0], knobs)
    matrix.cells(config, made)
    return config, [*asked, *knobs]


def help_text() -> str:
    """What `--help` says."""
    jobs = "\n".join(f"  {name:14} {line}" for name, line in JOBS.items())
    groups = {"recipes": RECIPES, **{f"{part}=NAME": named for part, named in NAMED.items()}}
    named = "\n\n".join(f"{title}\n{listing(recipes)}" for title, recipes in groups.items())
    defaults = "\n".join(f"  {name}={'' if value == '' else value}" for name, value in flat(Config()).items())
    told = "knobs and their defaults (explained in docs/knobs.md, which is made of engine/config.py, models.py and settings.py)"
    return f"{USAGE}\n\njobs\n{jobs}\n\n{named}\n\n{told}\n{defaults}"


def listing(recipes: Mapping[str, Callable[[], Section]]) -> str:
    """A line for each recipe: its name and the first line of its docstring."""
    return "\n".join(f"  {name:14} {(recipe.__doc__ or '').splitlines()[0]}" for name, recipe in recipes.items())


if __name__ == "__main__":
    sys.exit(main())
