"""The JSON report: everything, for programs."""

import json

from oci_conformance.result import of_requirement


def text(report):
    document = report.about()
    document["coverage"] = {level: {"observable": n, "covered": c, "all": a} for level, (n, c, a) in report.coverage().items()}
    document["requirements"] = []
    by_runtime = {runtime.label: report.by_requirement(runtime) for runtime in report.runtimes}
    for requirement in report.table.values():
        entry = requirement.as_dict()
        entry["verdicts"] = {label: of_requirement(found.get(requirement.id, ()), requirement.id) for label, found in by_runtime.items()}
        document["requirements"].append(entry)
    document["results"] = [result.as_dict() for result in report.results]
    document["left"] = report.left
    return json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n"
