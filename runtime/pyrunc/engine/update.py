"""update: changes limits, devices and rlimits of an existing container.

Everything is read, planned and checked first; then each kind of change is applied, all or nothing, and recorded before the next one: later
commands (exec, update, restore) depend on plan.json and config.json.
"""

from __future__ import annotations

from pyrunc.engine import lifecycle, planner
from pyrunc.errors import Refusal, StepFailure, UsageError
from pyrunc.linux import jsonbytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyrunc.parts.sides import Entry, Json
    from pyrunc.state_dir import StateDir


class Change:
    """One update of a container that is locked and loaded."""

    def __init__(self, state_dir: StateDir, options: Mapping[str, object]) -> None:
        self.state_dir = state_dir
        self.run = lifecycle.run_of(state_dir, options)
        self.plans = self.run.plans
        self.ctx = planner.Context(state_dir.id, self.run.bundle, {}, {"command": "update"}, self.run.root)
        self.ctx.plans.update(self.plans)
        self.steps: list[Callable[[], None]] = []

    def carry_out(self) -> None:
        for step in self.steps:
            step()
            self.state_dir.write("plan.json", jsonbytes.by_lines({**self.plans}))

    # -- limits

    def limits(self, doc: Json) -> None:
        """doc: /linux/resources. Refusal, Unsupported."""
        self.ctx.config["linux"] = {"resources": doc}
        part = planner.module("resources")
        new = part.plan({"/linux/resources": doc}, self.ctx)
        if new is None:
            return

        def step() -> None:
            self.plans["resources"] = part.update(new, planner.entry(self.plans, "resources") or {}, self.run)

        self.steps.append(step)

    def rdt(self, l3: str | None, memory: str | None) -> None:
        """Lines of schemata."""
        part = planner.module("rdt")
        try:
            entry = part.updatable(planner.entry(self.plans, "rdt"))
        except Refusal as e:
            raise UsageError("no-rdt", e.words, "update", "l3-cache-schema" if l3 else "mem-bw-schema") from None

        def step() -> None:
            self.plans["rdt"] = part.update(entry, l3, memory, self.run)

        self.steps.append(step)

    # -- devices

    def devices(self, added: list[Json], removed: list[Json]) -> None:
        """Lists of {"type", "major", "minor", "access", "path"?}, in the config's form. Rules are applied first, so that a node never
        exists without them; if a node can't be created, the rules are restored. The UsageError names the option."""
        if not added and not removed:
            return
        nodes = {option: self._nodes(items, option) for option, items in (("device-add", added), ("device-remove", removed))}
        items = [{**_rule(one), "allow": allow} for allow, those in ((False, removed), (True, added)) for one in those]

        def step() -> None:
            from pyrunc.engine import live_mounts

            part = planner.module("resources")
            before = planner.entry(self.plans, "resources") or {}
            if not self.state_dir.state.get("cgroup_paths"):
                self._without_rules(nodes, removed)
                return
            after = part.change_devices(items, before, self.run)
            try:
                live_mounts.nodes(self.run, nodes["device-add"], nodes["device-remove"])
            except BaseException:
                part.put_back_devices(before, after, self.run)
                raise
            self.plans["resources"] = after
            self._note(nodes["device-add"], nodes["device-remove"])

        self.steps.append(step)

    def _without_rules(self, nodes: dict[str, list[Entry]], removed: list[Json]) -> None:
        """A container without cgroups has no rules: nothing has to be allowed, and a device can only be denied by removing its node in a
        user namespace, where no process can create another one."""
        from pyrunc.engine import live_mounts

        if any("path" not in one or not planner.module("cgroups").is_rootless(self.plans) for one in removed):
            raise StepFailure(
                "no-cgroups-to-deny",
                "cannot deny a device: the container was created without cgroups",
                "update.devices",
                "host",
                "--device-remove",
            )
        live_mounts.nodes(self.run, nodes["device-add"], nodes["device-remove"])
        self._note(nodes["device-add"], nodes["device-remove"])

    def _nodes(self, items: list[Json], option: str) -> list[Entry]:
        part = planner.module("devices")
        entries = []
        for one in items:
            if "path" not in one:
                continue
            try:
                entries.append(part.live_plan({k: v for k, v in one.items() if k != "access"}, "--" + option, self.ctx))
            except Refusal as e:
                raise UsageError("bad-value", "invalid value for %s: %s" % (option, e.words), "update", option, e.hint) from None
        return entries

    def _note(self, added: list[Entry], removed: list[Entry]) -> None:
        """Updates the plan's list of nodes to the current ones."""
        self.plans["devices"] = planner.module("devices").changed(planner.entry(self.plans, "devices"), added, removed)

    # -- rlimits

    def rlimits(self, limits: list[Json]) -> None:
        """[{"type", "soft", "hard"}]: for all processes, and for those of later execs without their own rlimits."""
        if not limits:
            return
        part = planner.module("rlimits")
        try:
            wanted = part.rows(limits)
        except Refusal as e:
            raise UsageError("bad-value", "invalid value for rlimit: %s" % e.words, "update", "rlimit", e.hint) from None

        def step() -> None:
            part.update(wanted, self.run)
            config = self.state_dir.config()
            process = config.setdefault("process", {})
            kept = [one for one in process.get("rlimits") or () if one["type"] not in {row[0] for row in wanted}]
            process["rlimits"] = kept + limits
            self.state_dir.write("config.json", jsonbytes.by_lines(config))
            self.plans["rlimits"] = part.changed(process["rlimits"])

        self.steps.append(step)


def _rule(one: Json) -> Json:
    """The part of a device that is a rule; a path belongs to the node."""
    return {key: one[key] for key in ("type", "major", "minor", "access") if key in one}
