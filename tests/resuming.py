"""A run that is stopped and gone on with, which more than one test compares with an uninterrupted one."""

import pytest

from triptych import train
from triptych.run import Run


def interrupted_and_resumed(run, data, stop):
    """Trains to step `stop`, is interrupted there, and goes on from the folder to the end."""

    def interrupt(step, _numbers):
        if step.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(run, data, watch=interrupt)
    resumed = Run.resume(run.folder)
    assert resumed.step == stop
    train.fit(resumed, data)
