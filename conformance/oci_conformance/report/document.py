"""The JSON report: everything, for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from oci_conformance.result import of_requirement

if TYPE_CHECKING:
    from oci_conformance.report import Report
    from oci_conformance.shapes import Json


def text(report: Report) -> str:
    document = report.about()
    document["coverage"] = {level: {"observable": n, "covered": c, "all": a} for level, (n, c, a) in report.coverage().items()}
    document["requirements"] = []
    by_runtime = {runtime.label: report.by_requirement(runtime) for runtime in report.runtimes}
    for requirement in report.table.values():
        entry: dict[str, Json] = {**requirement.as_dict()}
        entry["verdicts"] = {label: of_requirement(found.get(requirement.id, ()), requirement.id) for label, found in by_runtime.items()}
        document["requirements"].append(entry)
    document["results"] = [result.as_dict() for result in report.results]
    document["left"] = report.left
    return json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n"
