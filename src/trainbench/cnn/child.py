"""``python -m trainbench.cnn.child --flag=value ...``: one run in a process of its own.

As ``trainbench cnn``, but it ends with the process that started it.
"""

from __future__ import annotations

import sys

from trainbench.cnn.entry import main
from trainbench.trials.parent_watch import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    sys.exit(main(sys.argv[1:]))
