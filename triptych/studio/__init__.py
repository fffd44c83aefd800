"""The verbs over HTTP, and one page that uses them: `triptych studio`.

`create_app` makes the application of some runs; `serving.serve` runs it. Pictures stay in memory under unguessable ids and
expire; work is batched on each model by a thread of its own (`worker`); everything that comes from outside is bounded
(`limits`) and checked before it is read (`security`).
"""

from triptych.studio.app import create_app
from triptych.studio.limits import Limits
from triptych.studio.registry import Registry

__all__ = ["Limits", "Registry", "create_app"]
