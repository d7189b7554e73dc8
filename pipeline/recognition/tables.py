"""A result as Markdown, and each reader in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]


def markdown(result: Result) -> str:
    """The whole result for people."""
    lines = ["### Protocol", "", *_protocol(result), ""]
    for labelling in result["labellings"]:
        lines += [f"### {labelling['name']}", "", _classes(labelling), "", *_table(labelling), ""]
    lines += [f"{note}\n" for note in _notes(result)]
    return "\n".join(lines)


def reader_lines(result: Result) -> list[str]:
    """One line for each labelling and reader."""
    return [
        f"{labelling['name']}, {reader['name']}: "
        + "; ".join(f"{cell['shots']}-shot {_cell(cell)}" for cell in reader["shots"])
        for labelling in result["labellings"]
        for reader in labelling["readers"]
    ]


def _protocol(result: Result) -> list[str]:
    episodes, sample = result["protocol"]["episodes"], result["sample"]
    videos = result["protocol"]["videos"]
    where = ", ".join(f"{column} = {value}" for column, value in videos["where"].items())
    lines = [
        f"- {episodes['num_ways']}-way, {' and '.join(map(str, episodes['shots']))} shots, "
        f"{episodes['queries_per_class']} questions per class, {episodes['num_episodes']} episodes "
        f"each, seed {episodes['seed']}; the same episodes for all readers",
        f"- {sample['num_videos']} videos ({where or 'all'}), "
        f"{videos['clips_per_video']} clips of each; words weighted by "
        f"{sample['num_clips']:,} clips of the dataset",
        f"- dataset {sample['fingerprint'][:12]}, tokenizer {sample['tokenizer'][:12]}",
    ]
    if episodes["shuffle_labels"]:
        lines.append("- **control: the labels were exchanged at random**")
    return lines


def _classes(labelling: Mapping[str, Any]) -> str:
    text = f"{len(labelling['classes'])} classes (videos): {_counted(labelling['classes'])}."
    if labelling["left_out"]:
        text += f" Left out, too few videos: {_counted(labelling['left_out'])}."
    return text


def _counted(classes: Mapping[str, int]) -> str:
    return ", ".join(f"{label} {count}" for label, count in classes.items())


def _table(labelling: Mapping[str, Any]) -> list[str]:
    shots = [cell["shots"] for cell in labelling["readers"][0]["shots"]]
    headings = [f"{number}-shot %" for number in shots]
    chance = 100 * labelling["readers"][0]["shots"][0]["chance"]
    lines = [_line("reader", *headings), "|---|" + "---:|" * len(headings)]
    lines += [
        _line(reader["name"], *map(_cell, reader["shots"])) for reader in labelling["readers"]
    ]
    return [*lines, _line("*chance*", *[f"{chance:.1f}"] * len(headings))]


def _cell(cell: Mapping[str, Any]) -> str:
    half = 100 * (cell["episodes_high"] - cell["mean"])
    text = f"{100 * cell['mean']:.1f} ± {half:.1f}"
    if cell["videos_low"] is not None:
        text += f" [{100 * cell['videos_low']:.1f}, {100 * cell['videos_high']:.1f}]"
    verdict = cell["verdict"]
    text += f" **{verdict}**" if verdict == "above chance" else f" {verdict}"
    if cell["num_unreadable"]:
        text += f", {cell['num_unreadable']} answers named no class"
    return text


def _notes(result: Result) -> list[str]:
    num_cells = sum(
        len(reader["shots"])
        for labelling in result["labellings"]
        for reader in labelling["readers"]
    )
    notes = [
        "Mean ± 95 % interval over episodes; [95 % interval by a bootstrap over the videos asked "
        "about]. Above chance: both intervals are. "
        f"Of {num_cells} numbers {num_cells / 40:.1f} would lie above chance at the 95 % level by "
        "luck alone.",
        "No video is both an example and a question of one episode; a video is one example, "
        "whatever the number of its clips.",
    ]
    notes += [
        f"{name}: {facts['model']}, sha256 {facts['sha256'][:12]}."
        for name, facts in _facts(result).items()
        if "sha256" in facts
    ]
    return notes


def _facts(result: Result) -> dict[str, Mapping[str, Any]]:
    return {
        reader["name"]: reader["facts"]
        for labelling in result["labellings"]
        for reader in labelling["readers"]
    }


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
