"""How many files, and so connections, a process that serves requests may have open: as many as the system grants, up to MOST.

Most systems start a program with room for 1,024 and let it ask for more. The ingress holds a connection for each client and a worker one
for each call, thousands at their own bounds. Decides nothing else; where no more is granted, what there is has to do.
"""

from __future__ import annotations

import contextlib
import resource

# Where there is no bound, none is asked for: programs that such a process starts may go through all files that it could have.
MOST = 65_536


def allow_many() -> None:
    """Call once, at the start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(MOST, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
