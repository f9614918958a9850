"""What a release folder says of itself, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HOLDS = (
    ("MODEL_CARD.md", "intended use, data, figures per class with intervals, known failures"),
    ("evaluation/", "the evaluation report (index.html), metrics.json, split.json, plots"),
    ("verdict/", "the gate's verdict that decided: JSON, Markdown, JUnit XML"),
    ("comparison/", "against the champion before, with pictures of beats on which they differ"),
    ("data/", "licence and citation of the data"),
    ("sbom.cdx.json", "packages of the bento, model and data: CycloneDX 1.5"),
    ("licences/", "licences of the packages, with their texts, and of this software"),
    ("lineage.json, lineage.txt", "raw data, images, weights, version, bento, commits"),
    ("release.json", "the same for programs"),
    ("SHA256SUMS", "checksums of everything; SHA256SUMS.sig their signature, where there is one"),
)


def read_me(about: Mapping[str, Any], *, signed: bool) -> str:
    """The first page of a release folder.

    Parameters
    ----------
    about : mapping
        The content of release.json.
    """
    lines = [f"# {about['model']} version {about['version']}", ""]
    if about["synthetic"]:
        lines += ["> **Sample data.** Synthetic recordings: evidence of nothing.", ""]
    lines += ["**No medical device.** For research and engineering.", ""]
    for row in about["overruled"]:
        lines += [
            f"> **The gate was overruled** ({', '.join(row['checks'])}) by {row['by']} on "
            f"{row['on']}: {row['reason']}",
            "",
        ]
    if not about["overruled"]:
        lines += [f"The gate {'passed' if about['passed'] else 'did not pass'} it.", ""]
    lines += ["| | |", "| --- | --- |"]
    lines += [
        f"| {key.replace('_', ' ')} | {about[key] or 'none'} |"
        for key in ("bento", "compared_with", "weights_sha256", "onnx_sha256", "data_hash",
                    "images_hash", "spec_id", "git_commit", "mlflow_run")
    ]  # fmt: skip
    lines += ["", "| file | holds |", "| --- | --- |"]
    lines += [f"| {name} | {words} |" for name, words in _HOLDS]
    if about["missing"]:
        lines += ["", "Could not be made here:", "", *(f"- {each}" for each in about["missing"])]
    how = " --key PUBLIC_KEY" if signed else ""
    lines += [
        "",
        f"To check it: `ecgbeats release verify .{how}`, or `sha256sum -c SHA256SUMS`.",
        "",
    ]
    return "\n".join(lines)


def data_licence(about: Mapping[str, Any]) -> str:
    """Under what the data may be used, and how it is cited.

    Parameters
    ----------
    about : mapping
        The content of data.json.
    """
    lines = [f"# {about['name']} ({about['version']})", ""]
    if about["synthetic"]:
        lines += ["Synthetic recordings.", ""]
    lines += [f"Licence: {about.get('licence') or 'not stated'}.", ""]
    if about["source"]:
        lines += [f"Source: {about['source']}", ""]
    lines += [about["citation"] or "Citation: not known here; the data is not on this machine.", ""]
    lines += [
        "The recordings themselves are no part of this release; images of single beats are, in "
        "evaluation/ and comparison/.",
        "",
    ]
    return "\n".join(lines)
