"""A run that is stopped and resumed, which more than one test compares with an uninterrupted one."""

import pytest

from triptych.training import Run, fit


def interrupted_and_resumed(run, data, stop):
    """Trains to step `stop`, is interrupted there, and resumes from the folder to the end."""

    def interrupt(step, _numbers):
        if step.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(run, data, watch=interrupt)
    resumed = Run.resume(run.folder)
    assert resumed.step == stop
    fit(resumed, data)
