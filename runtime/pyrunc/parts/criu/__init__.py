"""What CRIU is told of the plans of the parts, and what is made for it. A module belongs to the part whose name it has, and to the engine's
checkpoint and restore alone: no other command loads it."""
