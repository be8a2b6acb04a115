"""oci-conformance --runtime PATH …"""

import os
import sys
import tempfile

from oci_conformance import machine as machines
from oci_conformance import case as cases
from oci_conformance import probe, system
from oci_conformance.runner import Runner
from oci_conformance.runtime import Runtime, Unusable


def main(argv):
    import time
    paths = argv[0].split(",")
    text = argv[1] if len(argv) > 1 else ""
    with machines.own_mounts():
        system.subreaper()
        directory = tempfile.mkdtemp(prefix="ocs-")
        os.chmod(directory, 0o755)
        tools = probe.prepare(directory, None, bool(os.environ.get("SHELLPROBE")))
        machine = machines.Machine(tools.compiled)
        b = time.monotonic()
        def show(r):
            if r.verdict != "pass":
                print(r.runtime.label, r.case.id, r.verdict, r.words(), r.failed_requirements() if r.verdict=="fail" else "", "%.2f" % r.seconds)
                if os.environ.get("V"):
                    print(r.reason); [print("   ", c) for c in r.failed_checks]; [print("   ", c) for c in r.calls]
            elif os.environ.get("V"): print(r.runtime.label, r.case.id, r.verdict, "%.2f" % r.seconds)
            if r.left: print("   left", r.left)
        runner = Runner(machine, tools, directory, 2, on_result=show)
        good=[]
        for path in paths:
            r = Runtime(path)
            try:
                runner.prepare(r)
                print(r.label, r.name, r.version, r.declares)
                good.append(r)
            except Unusable as e:
                print(e)
        runner.run(good, cases.choose("full", text))
        print("left", runner.sweep())
        print(len(runner.results), sum(r.verdict=="pass" for r in runner.results), "%.1f" % (time.monotonic()-b))
