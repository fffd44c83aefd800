"""A process that does parts of a tour: `python -m triptych.tour.worker OUT`, names of parts on its input.

It writes a line of JSON for each step of long work, and at the end of each part. When its input ends, because the tour has
ended however it did, it saves what it trains and ends.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import IO

from triptych.errors import TriptychError


def main(folder: str) -> None:
    """Does parts until the input ends."""
    out = _own_output()
    asked: queue.Queue[str | None] = queue.Queue()
    busy = threading.Event()
    threading.Thread(target=_listen, args=(asked, busy), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tour's own process hears it, and closes the input

    import torch

    from triptych.modes import flush_subnormals

    flush_subnormals()
    torch.set_num_threads(1)
    from triptych.tour.parts import parts_of
    from triptych.tour.place import Place
    from triptych.tour.schedule import do, telling

    place = Place.of(Path(folder))
    parts = {part.name: part for part in parts_of(place.settings)}
    while (part := asked.get()) is not None:
        busy.set()
        try:
            with telling(out):
                do(place, parts[part])
        except KeyboardInterrupt:  # the tour has ended, and the training has saved what it had
            return
        except TriptychError as error:
            said = {"failed": str(error)}
        except Exception:  # said to the tour, which says it to a person: this process has nobody to talk to
            said = {"failed": traceback.format_exc()}
        else:
            said = {"done": part}
        busy.clear()
        print(json.dumps(said), file=out, flush=True)


def _own_output() -> IO[str]:
    """Standard output for messages alone: what libraries print goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _listen(asked: queue.Queue[str | None], busy: threading.Event) -> None:
    for line in sys.stdin:
        asked.put(line.strip())
    asked.put(None)
    if busy.is_set():  # a training saves, and ends; anything else is done again another time
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:])
