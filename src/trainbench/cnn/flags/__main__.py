"""``python -m trainbench.cnn.flags``: the page docs/cnn_flags.md, from the table."""

from __future__ import annotations

import textwrap

from trainbench.cnn.flags import DROP, FLAGS, KEEP, MAP, NOTE, OURS, Flag
from trainbench.cnn.flags.retired import ALWAYS_ON, RETIRED

MEANINGS = {
    KEEP: "the same meaning as in tf_cnn_benchmarks",
    MAP: "the same purpose, by another mechanism",
    NOTE: "accepted without effect; one warning gives the reason",
    DROP: "refused; the message names a replacement",
    OURS: "not in tf_cnn_benchmarks",
}
REMARKS = {MAP: "Mechanism", NOTE: "Reason", DROP: "Reason or replacement"}


def page() -> str:
    """The flags by verdict, as Markdown."""
    parts = [
        "# Flags of `trainbench cnn`, by verdict",
        "A verdict says what has become of a flag of tf_cnn_benchmarks. `--help` lists the same\n"
        "flags by subject. `python -m trainbench.cnn.flags` writes this page; a test compares.\n"
        "`--flagfile`, `--undefok`, `--helpshort` and `--helpfull` are absl's and not listed.",
    ]
    for verdict, meaning in MEANINGS.items():
        flags = [flag for flag in FLAGS.values() if flag.verdict == verdict]
        parts += [f"## {verdict}: {meaning} ({len(flags)})", "\n".join(map(_item, flags))]
    parts += [f"## Retired: names of earlier versions ({len(RETIRED)})", _retired()]
    return "\n\n".join(parts) + "\n"


def _retired() -> str:
    refused = [f"- `{name}`: {now}" for name, now in RETIRED.items()]
    taken = [f"- `{name}` is taken, whatever its value: {why}" for name, why in ALWAYS_ON.items()]
    return "\n".join(
        [
            "Each is refused, and the message says what to write instead.",
            "",
            *(
                textwrap.fill(item, 100, subsequent_indent="  ", break_on_hyphens=False)
                for item in (*refused, *taken)
            ),
        ]
    )


def _item(flag: Flag) -> str:
    default = "" if flag.default in (None, "", ()) else f", default `{flag.default}`"
    remark = f" *{REMARKS[flag.verdict]}:* {flag.remark}." if flag.verdict in REMARKS else ""
    text = f"- `{flag.name}` ({flag.kind}{default}): {flag.help}{remark}"
    return textwrap.fill(text, 100, subsequent_indent="  ", break_on_hyphens=False)


if __name__ == "__main__":
    print(page(), end="")
