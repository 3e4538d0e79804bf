"""scripts/docs_site is a package of its own: scripts/docs.sh runs it."""

from __future__ import annotations

import sys

from checkout import CHECKOUT

sys.path.append(str(CHECKOUT / "scripts"))
