"""``python -m trainbench.cnn.flags``: the page docs/cnn_flags.md, from the table."""

from __future__ import annotations

from trainbench.cnn.flags import DROP, FLAGS, KEEP, MAP, NOTE, OURS, Flag

MEANINGS = {
    KEEP: "the same meaning as in tf_cnn_benchmarks",
    MAP: "the same purpose, by another mechanism",
    NOTE: "accepted; one warning says that there is no effect, and why",
    DROP: "refused, with the replacement named",
    OURS: "not in tf_cnn_benchmarks",
}


def page() -> str:
    """The flags by verdict, as Markdown."""
    parts = [
        "# Flags of `trainbench cnn`, by verdict",
        "Written by `python -m trainbench.cnn.flags`; a test compares. `--help` lists the same "
        "flags by concern.",
    ]
    for verdict, meaning in MEANINGS.items():
        flags = [flag for flag in FLAGS.values() if flag.verdict == verdict]
        remark = "Today" if verdict == MAP else "Why, or what instead"
        last = "" if verdict in (KEEP, OURS) else f" {remark} |"
        rule = "" if verdict in (KEEP, OURS) else "---|"
        rows = [f"| Flag | Type | Default | What it does |{last}", f"|---|---|---|---|{rule}"]
        rows += [_row(flag, remark=bool(last)) for flag in flags]
        parts += [f"## {verdict}: {meaning} ({len(flags)})", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def _row(flag: Flag, *, remark: bool) -> str:
    default = "" if flag.default in (None, "", ()) else f"`{flag.default}`"
    end = f" {flag.remark} |" if remark else ""
    return f"| `{flag.name}` | {flag.kind} | {default} | {flag.help} |{end}"


if __name__ == "__main__":
    print(page(), end="")
