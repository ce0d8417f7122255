"""A network with channels, heads and layers taken away, in rounds, until it is small enough."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moodal import bundle, extras
from moodal.compress import ground, network
from moodal.compress.ground import Ground, stand
from moodal.compress.judge import Measured, judge, misses, stands
from moodal.compress.network import Loaded
from moodal.compress.plan import Plan
from moodal.compress.teach import Student, parts_for, teach
from moodal.config import Run
from moodal.errors import ModelError
from moodal.model import shape
from moodal.model.answers import Text
from moodal.model.model import Network
from moodal.runtime import output
from moodal.runtime.output import say
from moodal.training.examples import Parts
from moodal.training.loop import Job
from moodal.training.run import job_of

FACTS = "facts.json"
"""Beside each round's bundle, written after it."""
INWARD = ("identity", "seal")
"""What of a round's facts only going on with it needs."""


def step(plan: Plan, folder: Path, out: Path) -> dict[str, Any]:
    """Write the bundle `out`: that in `folder` without what the answers need least.

    A round takes a share away and trains what is left. Rounds go on until the targets are met, and
    the last is undone where more is lost than may be.

    Returns: facts for the report. Raises: ConfigError, ModelError, DataError, CapacityError.
    """
    extras.load("moodal.compress.channels", "compress")
    found = stand(plan, folder)
    place = out.with_name(f"{out.name}.rounds")
    rounds: list[dict[str, Any]] = []
    held = folder
    for number in range(1, plan.ways.prune.rounds + 1):
        made = _round(plan, found, held, place / str(number))
        rounds.append(made)
        measured = Measured.of(made["measured"])
        say(f"prune, round {number}: {measured.megabytes:.2f} MB, {measured.milliseconds:.2f} ms, "
            f"score {measured.score:.3f} (parent {measured.parent:.3f})")  # fmt: skip
        if not stands(plan, measured):
            break
        held = place / str(number)
        if not misses(plan, measured) and (plan.target_ms or plan.target_mb):
            break
    last = held if held != folder else place / "1"  # what fails is shown too
    _copy(last, out)
    shutil.rmtree(place, ignore_errors=True)
    rounds = [{k: v for k, v in made.items() if k not in INWARD} for made in rounds]
    return {"rounds": rounds, "kept": 0 if held == folder else int(held.name)} | _left(found)


def weights_step(plan: Plan, folder: Path, out: Path) -> dict[str, Any]:
    """Write the bundle `out`: that in `folder` with its smallest single weights made 0, and trained
    with these held at 0. It is no faster, and smaller only where the folder is packed: the facts
    say by how much.

    Source: Han et al., Learning both Weights and Connections for Efficient Neural Networks (2015),
    section 3, in one round, layer by layer.
    """
    found = stand(plan, folder)
    loaded, sparsity = network.load(folder), plan.ways.prune.sparsity
    sparse = _sparsen(loaded.network, sparsity)
    student = Student(loaded.network, healing(plan, loaded.run), _identity(plan, found, folder))
    teach(plan, found, student, out)
    return {
        "sparsity": sparsity,
        "layers": sparse,
        "packed": [_packed(folder), _packed(out)],
        "note": "zeros are multiplied like any other number, so nothing is faster; the folder is "
        "smaller only where it is packed",
    }


SMALLEST = 1024
"""Weights of fewer numbers stay as they are."""


def _sparsen(pruned: Network, sparsity: float) -> list[str]:
    """Make the smallest weights of each layer 0, for good. Returns: the layers."""
    done = []
    for name, weights in pruned.named_parameters():
        if weights.ndim < 2 or weights.numel() < SMALLEST:
            continue
        size = weights.detach().abs()
        stays = size > size.flatten().kthvalue(max(1, round(sparsity * size.numel()))).values
        with torch.no_grad():
            weights.mul_(stays)
        # Neither a step nor a decay moves a weight that is 0 and has no slope.
        weights.register_hook(partial(torch.mul, stays))  # type: ignore[no-untyped-call]
        done.append(name)
    return done


def _packed(folder: Path) -> int:
    """Bytes of the graphs and weights, packed as a zip would."""
    names = (p for p in sorted(folder.iterdir()) if p.suffix in (".onnx", ".safetensors"))
    return sum(len(zlib.compress(path.read_bytes(), 6)) for path in names)


def _left(found: Ground) -> dict[str, Any]:
    """What no round can reach, and why."""
    why = {"the common width": "the fusion's width is that of every encoder's answer"}
    if isinstance(found.start.network.answer, Text):
        why["the decoder"] = "its cell is run symbol by symbol, and its vectors are the encoder's"
    return {"left alone": why}


def _round(plan: Plan, found: Ground, begun: Path, out: Path) -> dict[str, Any]:
    """Cut, train, judge; or what is known of it from before the run was stopped."""
    identity = _identity(plan, found, begun)
    if (kept := _known(out, identity)) is not None:
        return kept
    loaded = network.load(begun)
    facts = cut(plan, found, loaded)
    student = Student(loaded.network, healing(plan, found.start.run), identity)
    teach(plan, found, student, out)
    made = {"identity": identity, "measured": asdict(judge(plan, out)), **facts}
    made["seal"] = bundle.load(out).seal
    with output.whole(out.with_name(f"{out.name}.{FACTS}")) as temporary:
        temporary.write_text(json.dumps(made), "utf-8")
    return made


def _identity(plan: Plan, found: Ground, begun: Path) -> dict[str, Any]:
    ways = plan.ways.model_dump(mode="json")
    teachers = [teacher.info.seal for teacher in found.teachers]
    made = {"begun": bundle.load(begun).seal, "teachers": teachers, "ways": ways}
    return made | {
        "data": found.hashes,
        "seed": plan.seed,
        "train": (plan.settings or {}).get("train"),
    }


def _known(out: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    try:
        made: dict[str, Any] = json.loads(out.with_name(f"{out.name}.{FACTS}").read_text("utf-8"))
        same = made["identity"] == json.loads(json.dumps(identity))
        return made if same and bundle.verify(out).seal == made["seal"] else None
    except (OSError, ValueError, KeyError, ModelError):
        return None


def healing(plan: Plan, run: Run) -> Run:
    """The settings of the training after a round: few epochs, small steps."""
    how = plan.ways.prune
    given: dict[str, Any] = {"epochs": how.epochs, "patience": how.epochs, "seed": plan.seed}
    given["learning_rate"] = how.learning_rate * run.train.learning_rate
    train = run.train.model_copy(update=given)
    cache = (plan.settings or {}).get("cache")
    return run.model_copy(update={"train": train, "columns": plan.columns, "cache": cache})


def cut(plan: Plan, found: Ground, loaded: Loaded) -> dict[str, Any]:
    """Take layers, then channels and heads, out of a network. Returns: what went."""
    from moodal.compress.channels import Channels

    how, pruned = plan.ways.prune, loaded.network
    parts = parts_for(found, pruned)
    narrow = ground.narrowed(parts, pruned.modalities)
    job = job_of(narrow, pruned, healing(plan, loaded.run), None)
    rows = max(1, how.rows // job.train.batch_size)
    layer = drop(shape.stacks(pruned), lambda: _mean(_losses(job, rows)), how.layers)
    channels = Channels(pruned, _examples(narrow, pruned))
    widths = channels.cut(channels.worth(_losses(job, rows)), how.share)
    return {"layers": layer, "widths": widths}


def _losses(job: Job, n: int) -> Iterator[Tensor]:
    """Of the first training batches, as validation sees them: nothing is augmented."""
    loader = replace(job.train, training=False, modality_dropout=0.0)
    job.network.eval()
    for rows in islice(_labelled(loader.rows(0), job), n):
        batch = loader.make(rows, 0)
        answer = job.network(batch.inputs, None, batch.targets).answer
        yield job.loss(answer, batch.targets, batch.weights).mean()


def _labelled(batches: list[Any], job: Job) -> Iterator[Any]:
    """Batches evenly picked, from which rows without a label are left out."""
    taught = job.train.examples.taught
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(0)).tolist()
    for place in order:
        if len(rows := batches[place][taught[batches[place]]]):
            yield rows


def _mean(losses: Iterator[Tensor]) -> float:
    with torch.no_grad():
        return float(torch.stack(list(losses)).mean())


def drop(
    stacks: Mapping[str, nn.ModuleList | nn.Sequential], loss: Callable[[], float], limit: float
) -> dict[str, float]:
    """Take out the layer without which the loss rises least, if that is within the limit, a share
    of the loss. Returns: that layer -> by how much the loss rises."""
    if not limit:
        return {}
    before, rises = loss(), dict[tuple[str, int], float]()
    for name, stack in stacks.items():
        for place in range(len(stack)):
            with _without(stack, place):
                rises[name, place] = (loss() - before) / max(before, 1e-9)
    name, place = min(rises, key=lambda layer: rises[layer], default=("", 0))
    if not rises or rises[name, place] > limit:
        return {}
    del stacks[name][place]
    return {f"{name}.{place}": rises[name, place]}


@contextmanager
def _without(stack: nn.ModuleList | nn.Sequential, place: int) -> Iterator[None]:
    """A stack without one of its layers, while it lasts."""
    layer = stack[place]
    del stack[place]
    yield
    stack.insert(place, layer)


def _examples(parts: Parts, pruned: Network) -> Any:
    from moodal.training.finish import example

    return {m: example(parts, m) for m in pruned.modalities}


def _copy(folder: Path, out: Path) -> None:
    info = bundle.load(folder)
    files = {name: bundle.read(folder, info, name) for name in info.files}
    bundle.save(out, info.model_copy(update={"name": out.name}), files)
