"""card.md: what a model is, for people."""

from __future__ import annotations

from moodal.bundle import Info
from moodal.tasks import TASKS


def write(info: Info) -> str:
    """Markdown: the task, the data, the scores by modality subset, the limits."""
    task = TASKS[info.task]
    parts = "\n".join(
        f"| {name} | {part['rows']} | {part['rejected']} | {part['unlabelled']} "
        f"| {part['sha256'][:16]} |"
        for name, part in (("training", info.data["train"]), ("validation", info.data["valid"]))
    )
    labels = {"summary": ", ".join(info.labels) or "a number"}.get(task.head, "a text")
    goal = task.goal.replace("_", " ")
    rows = "\n".join(
        f"| {subset} | {scores['n']} | {scores[task.goal]:.3f} |"
        for subset, scores in info.scores.items()
        if scores[task.goal] is not None
    )
    abstains = (
        f"Under a confidence of {info.threshold:.2f} it abstains."
        if info.threshold
        else "It never abstains."
    )
    lineage = ""
    if info.parents:
        lineage = f"""
It started from {", ".join(info.parents)}: what it says of data and licences holds here as well.
"""
    return f"""# {info.name}

Task: {info.task}. Answers: {labels}. Modalities: {", ".join(info.modalities)}.
{info.parameters:,} parameters, kept as {info.weights}, computed in {info.arithmetic}.
Made by moodal {info.moodal} on {info.created}.

## Data

| part | rows | rejected | without a label | sha256 |
|---|---|---|---|---|
{parts}

The licence of these weights follows from the licence of that data: add it here.
{lineage}
## Scores on the validation part

The epoch, the temperatures and the threshold were chosen on this part, so it flatters a little.

| seen | rows | {goal} |
|---|---|---|
{rows}

## Limits

It was trained on the rows above and knows no other kind of text, picture or recording.
{abstains}
"""
