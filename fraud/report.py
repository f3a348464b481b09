"""The evaluation as one HTML file: tables, plots within it, nothing to fetch from elsewhere."""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.figure
import numpy as np

from fraud.comparison import ALERTS_FOR_TYPOLOGIES, Compared

mpl.use("agg")
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.3em .7em;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}img{max-width:100%}"""


def write(compared: Compared, source: str, folder: Path) -> tuple[Path, Path]:
    """report.html and report.json in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    page, data = folder / "report.html", folder / "report.json"
    page.write_text(_page(compared, source), encoding="utf-8")
    figures = {"source": source, "models": compared.measures, "typologies": compared.typologies}
    data.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return page, data


def rows_of(compared: Compared) -> list[list[str]]:
    """The main table, header first: one line a model."""
    header = [
        "model",
        "AUPRC",
        "recall 0.1 %",
        "value 0.1 %",
        "value, by p x amount",
        "recall 0.5 %",
        "before 2nd",
        "ECE",
    ]
    lines = []
    for name, measure in compared.measures.items():
        low, high = measure["alerts"]
        figures = (
            measure["auprc"], low["recall"], low["value_recall"], measure["by_expected_loss"]["value_recall"],
            high["recall"], measure["victims"]["before_second"],
        )  # fmt: skip
        lines.append([name, *(f"{figure:.3f}" for figure in figures), f"{measure['calibration_error']:.5f}"])
    return [header, *lines]


def _page(compared: Compared, source: str) -> str:
    frauds, rows = int(compared.labels.sum()), len(compared.labels)
    prevalences = [["model", *(f"AUPRC, ECE at {cell['prevalence']:g}" for cell in _first(compared)["at_prevalence"])]]
    for name, measure in compared.measures.items():
        cells = (f"{cell['auprc']:.3f}, {cell['calibration_error']:.6f}" for cell in measure["at_prevalence"])
        prevalences.append([name, *cells])
    typologies = [["kind of fraud", "payments", "recall", "recall when never seen in training"]]
    for name, row in compared.typologies.items():
        unseen = f"{row['recall_unseen']:.3f}" if "recall_unseen" in row else ""
        typologies.append([name.replace("_", " "), f"{row['rows']:.0f}", f"{row['recall']:.3f}", unseen])
    return "\n".join(
        [
            f"<!doctype html><html lang=en><meta charset=utf-8><title>Fraud evaluation</title><style>{_STYLE}</style>",
            f"<h1>Fraud evaluation</h1><p>{html.escape(source)}. Trained on the earlier days, judged on {rows:,} later "
            f"payments of which {frauds:,} ({frauds / rows:.3%}) are fraud.</p>",
            "<h2>The model and its rivals</h2>", _table(rows_of(compared)), _image(_precision_recall(compared)),
            "<p>The share of stolen value is given for alerts by probability, and for as many alerts by probability "
            "times amount. <i>Before 2nd</i>: incidents stopped before their second payment, at 0.5 % alerts.</p>",
            "<h2>If fraud were rarer</h2>", _table(prevalences),
            f"<h2>By kind of fraud</h2><p>At {ALERTS_FOR_TYPOLOGIES:.1%} alerts.</p>", _table(typologies),
            "<h2>Do the probabilities hold?</h2>", _image(_reliability(compared)), "</html>",
        ]
    )  # fmt: skip


def _first(compared: Compared) -> dict[str, Any]:
    return next(iter(compared.measures.values()))


def _table(rows: list[list[str]]) -> str:
    header, *lines = [[html.escape(cell) for cell in row] for row in rows]
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in lines)
    return "<table><tr>" + "".join(f"<th>{cell}</th>" for cell in header) + f"</tr>{body}</table>"


def _image(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return f'<img alt="plot" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _axes(x: str, y: str) -> tuple[Any, Any]:
    figure = mpl.figure.Figure(figsize=(7, 4))
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _precision_recall(compared: Compared) -> Any:
    figure, axes = _axes("recall", "precision")
    for name, scores in compared.scores.items():
        hits = np.cumsum(compared.labels[np.argsort(-scores, kind="stable")])
        recall, precision = hits / hits[-1], hits / np.arange(1, len(hits) + 1)
        steps = np.unique(np.searchsorted(recall, np.linspace(0, 1, 400)).clip(0, len(hits) - 1))
        axes.plot(recall[steps], precision[steps], label=name)
    axes.legend()
    return figure


def _reliability(compared: Compared) -> Any:
    figure, axes = _axes("probability said", "share that was fraud")
    for name, scores in compared.scores.items():
        order = np.argsort(scores, kind="stable")[-len(scores) // 50 :]
        parts = [part for part in np.array_split(order, 10) if len(part)]
        axes.plot([scores[p].mean() for p in parts], [compared.labels[p].mean() for p in parts], "o-", label=name)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.legend()
    return figure
