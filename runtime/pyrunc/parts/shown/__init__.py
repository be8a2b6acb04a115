"""How `plan` shows the entries of parts. Each module belongs to the part with its name; no other command but explain loads it. Pure.

    public(entry)    the entry for everybody: plans are pasted into bug reports, so values of environment variables are left out
    readable(entry)  the same for people, with names instead of bits: `plan --full`
    brief(entry)     the same with one short text for a mount, a device or a rule: `plan`

Each is optional: brief() defaults to readable(), readable() to public(), and public() to the entry itself. A part whose entry reads well
needs no module. engine/preview.py lists those that exist.
"""
