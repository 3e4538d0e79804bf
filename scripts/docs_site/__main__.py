"""What scripts/docs.sh does around the site's builder.

Usage: python -m docs_site stage OUT [RUNS]   the pages, and samples of the runs in RUNS; mkdocs.yml
                                              beside OUT
       python -m docs_site check SITE         dead links of the built site; exit code 1 if any
       python -m docs_site errors             write docs/errors.md
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from docs_site import commands, errors, links, samples, staging

# Titles weigh much in a search, and on this page whole messages are titles.
_BEHIND_OTHERS = "---\nsearch:\n  boost: 0.8\n---\n"
REPOSITORY = Path(__file__).resolve().parents[2]


def main(words: list[str]) -> int:
    """Run one of the words of the usage and return the exit code."""
    match words:
        case ["stage", out, *runs] if len(runs) <= 1:
            return _stage(Path(out), [Path(folder).resolve() for folder in runs])
        case ["check", site]:
            found = links.faults(Path(site))
            print("\n".join(found), end="\n" if found else "")
            return 1 if found else 0
        case ["errors"]:
            (REPOSITORY / "docs" / "errors.md").write_text(errors.page())
            return 0
    print(__doc__, file=sys.stderr)
    return 2


def _stage(out: Path, runs: list[Path]) -> int:
    shutil.rmtree(out, ignore_errors=True)
    try:
        staging.stage(REPOSITORY, out)
    except staging.LinkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    (out / "assets").mkdir()
    for name in ("iframe-worker.js", "site.css"):
        shutil.copy(Path(__file__).with_name(name), out / "assets")
    commands.write(out)
    configuration = (REPOSITORY / "mkdocs.yml").read_text()
    (out.parent / "mkdocs.yml").write_text(commands.in_navigation(configuration))
    (out / "errors.md").write_text(_BEHIND_OTHERS + errors.page(sections=True))
    (out / "samples.md").write_text(samples.make(runs[0], out) if runs else samples.without())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
