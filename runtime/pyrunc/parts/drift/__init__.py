"""How the plans of the parts show in a container that lives, for `diff`: compare(entry, drift) tells drift what differs. A module belongs to the
part whose name it has; no other command loads it. Reads only."""
